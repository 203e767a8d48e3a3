"""The command line's HTTP client, and the status of a served cascade."""
