"""What a policy gives on a score table, and whether its targets hold there."""
