"""Errors of the backends."""

from cascade.errors import InputError

__all__ = ["WeightsError"]


class WeightsError(InputError):
    """A weights or model file is missing, damaged, or does not fit."""
