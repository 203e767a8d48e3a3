"""Delivery of abstained rows, so that a person can decide."""
