"""Values of a target with few digits, which a user can type, rounded to the easier side."""

import math
from collections.abc import Iterator

import numpy as np

from cascade.calibration.certificates.goal import Goal

__all__ = ["near", "typed"]

DIGITS = 6
EASIER = 60


def typed(target: Goal, value: float) -> float:
    """A value of a target with 6 significant digits, no harder than a given one.

    Args:
        target: decides which side is easier.
        value: at least 0.
    """
    rounded = float(f"{value:.{DIGITS}g}")
    up = target.name.startswith("max_")
    if rounded == value or (rounded > value) == up:
        return rounded
    unit = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    return float(f"{rounded + unit if up else rounded - unit:.{DIGITS}g}")


def near(target: Goal, value: float, easiest: float) -> Iterator[float]:
    """Typed values from a given one to the easiest, in small steps at first."""
    yield typed(target, value)
    for share in np.geomspace(1e-6, 1.0, EASIER):
        yield typed(target, value + float(share) * (easiest - value))
