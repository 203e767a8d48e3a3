"""Slices of the rows: the cascade against its last stage on parts of the rows."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.evaluation.evaluation import Interval
from cascade.reports.measures.paired_difference import paired_difference_interval

__all__ = ["Slice", "compare_slices"]


@dataclass(frozen=True, eq=False)
class Slice:
    """The rows with one value of an attribute.

    Attributes:
        value: of the attribute.
        rows: their number, at least 1.
        gain: mean gain of the cascade on them, in [0, 1].
        last_gain: mean gain of the last stage alone on them, in [0, 1].
        difference_interval: two-sided 95 % interval of the difference, on the same rows.
        mean_cost: mean cost per row.
        share: (K,) share of them that each stage answers.
    """

    value: int | str
    rows: int
    gain: float
    last_gain: float
    difference_interval: Interval
    mean_cost: float
    share: np.ndarray

    @property
    def difference(self) -> float:
        """Gain of the cascade minus that of the last stage."""
        return self.gain - self.last_gain


def compare_slices(value: np.ndarray, gain: np.ndarray, cost: np.ndarray, stage: np.ndarray) -> list[Slice]:
    """The slices of n rows, the largest loss first; among equals, the one with more rows.

    Args:
        value: (n,) int, bool or str; rows of equal value are a slice.
        gain: (n, K) bool, whether each stage's answer is right (or in agreement).
        cost: (n,) float, cost of each row.
        stage: (n,) int, the stage that answers each row.
    """
    values, inverse, counts = np.unique(value, return_inverse=True, return_counts=True)
    parts = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    own, last = np.take_along_axis(gain, stage[:, None], axis=1)[:, 0], gain[:, -1]
    slices = [
        Slice(
            _plain(key),
            len(rows),
            float(own[rows].mean()),
            float(last[rows].mean()),
            paired_difference_interval(
                int((own[rows] & ~last[rows]).sum()), int((last[rows] & ~own[rows]).sum()), len(rows)
            ),
            float(cost[rows].mean()),
            np.bincount(stage[rows], minlength=gain.shape[1]) / len(rows),
        )
        for key, rows in zip(values, parts, strict=True)
    ]
    return sorted(slices, key=lambda found: (found.difference, -found.rows))


def _plain(value: np.generic) -> int | str:
    """A boolean as a word, a class as a number without thousands separators."""
    return str(value) if value.dtype.kind in "Ub" else int(value)
