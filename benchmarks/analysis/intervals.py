"""Intervals over independent repeats, and over the ratio of two benchmarks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

__all__ = ["LEAST_REPEATS", "METHOD", "Estimate", "estimate", "ratio", "spread"]

LEVEL = 0.95
LEAST_REPEATS = 3
METHOD = (
    "interval in which a further repeat falls with 95 % certainty (Student's t prediction interval); ratios: that of a "
    "further repeat of each, by Welch's t of the logarithms; none with fewer than 3 repeats"
)


class Estimate(BaseModel):
    """A number over repeats.

    Attributes:
        median: over the repeats.
        mean: over the repeats.
        low: lower end of the interval; ``None`` with too few repeats.
        high: upper end.
        smallest: of the repeats.
        largest: of the repeats.
        repeats: that have the number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    median: float
    mean: float
    low: float | None
    high: float | None
    smallest: float
    largest: float
    repeats: int


def estimate(values: Sequence[float]) -> Estimate:
    """The number over repeats, with the interval in which a further repeat falls.

    The interval of their mean would be too narrow: repeats of one command follow each other, and the machine's speed
    changes more from minute to minute than from second to second.

    Args:
        values: at least one, of independent repeats. If none is negative, the interval begins at 0 or above: rates,
            times and shares cannot be less.
    """
    array, half = np.asarray(values, dtype=float), None
    if len(array) >= LEAST_REPEATS:
        spread_of_next = array.std(ddof=1) * math.sqrt(1 + 1 / len(array))
        half = float(student.ppf((1 + LEVEL) / 2, len(array) - 1) * spread_of_next)
    mean, least = float(array.mean()), 0.0 if (array >= 0).all() else -math.inf
    return Estimate(
        median=float(np.median(array)),
        mean=mean,
        low=None if half is None else max(mean - half, least),
        high=None if half is None else mean + half,
        smallest=float(array.min()),
        largest=float(array.max()),
        repeats=len(array),
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """The ratio of two numbers that were measured independently, repeat by repeat.

    Args:
        ours: numerators.
        theirs: denominators.

    Returns:
        The ratio of the geometric means, with the interval for a further repeat of each, and of the medians; ``None``
        where a number is not above 0.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if not len(a) or not len(b) or a.min() <= 0 or b.min() <= 0:
        return None
    difference = float(np.log(a).mean() - np.log(b).mean())
    half = None
    if min(len(a), len(b)) >= LEAST_REPEATS:
        parts = np.array([np.log(each).var(ddof=1) * (1 + 1 / len(each)) for each in (a, b)])
        total = float(parts.sum())
        freedom = total**2 / float((parts**2 / [len(a) - 1, len(b) - 1]).sum()) if total else 1.0
        half = float(student.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)
    return Estimate(
        median=float(np.median(a) / np.median(b)),
        mean=math.exp(difference),
        low=None if half is None else math.exp(difference - half),
        high=None if half is None else math.exp(difference + half),
        smallest=float(a.min() / b.max()),
        largest=float(a.max() / b.min()),
        repeats=min(len(a), len(b)),
    )


def spread(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median, min and max over repeats of every number, in the nesting of the repeats.

    A number that a repeat lacks counts as 0, which only happens to counts of errors. All other values are left out.

    Args:
        repeats: at least one.
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for repeat in repeats for key in repeat):
        values = [repeat.get(key) for repeat in repeats]
        if any(isinstance(value, Mapping) for value in values):
            result[key] = spread([value for value in values if isinstance(value, Mapping)])
        elif all(value is None or isinstance(value, int | float) for value in values):
            numbers = [0.0 if value is None else float(value) for value in values]
            known = any(value is not None for value in values)
            three = {"median": float(np.median(numbers)), "min": min(numbers), "max": max(numbers)}
            result[key] = three if known else None
    return result
