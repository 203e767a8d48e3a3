"""Accuracy and cost of a policy on a score table, and whether its targets hold there."""
