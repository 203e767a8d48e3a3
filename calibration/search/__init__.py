"""Exact search of thresholds: useful candidates, all their combinations, and the frontier."""
