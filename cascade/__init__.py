"""Prediction cascades: the cheapest model that is sure enough answers."""

__all__ = ["__version__"]

__version__ = "0.1.0"
