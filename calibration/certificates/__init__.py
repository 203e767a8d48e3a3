"""Promises about the rows to come: what a goal asks, what proposes thresholds, and the tests that they must pass."""
