"""From records of requests to numbers, intervals and verdicts."""
