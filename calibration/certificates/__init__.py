"""Guarantees on future data: goals, the proposal of thresholds, and the tests that they must pass."""
