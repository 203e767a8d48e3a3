"""Bodies of requests: to rows and back, within limits."""
