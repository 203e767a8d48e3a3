"""Costs of stages: curves of time against rows, arrivals, and the resulting mean cost."""
