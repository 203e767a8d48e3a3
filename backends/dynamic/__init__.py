"""Networks in which every row takes its own path: what it does not need is not computed."""
