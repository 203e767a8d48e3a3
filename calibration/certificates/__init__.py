"""Promises about future data: what a goal asks, what proposes thresholds, and the tests that they must pass."""
