"""Fitting of calibrators, heads and whole routers to a score table."""
