"""Rows that a cascade abstained on, delivered for a person to decide."""
