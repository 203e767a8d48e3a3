"""Exact search of thresholds: which can be of use, all combinations of them, and the frontier that they make."""
