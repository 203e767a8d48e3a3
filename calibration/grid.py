"""All combinations of threshold candidates at once.

How many rows a stage answers, and what they gain and cost, depends on the thresholds up to that stage only. So one
histogram a stage over the bins of the earlier confidences, summed up along its axes, gives every combination exactly:
O(n K + size of the grid) in time, no row is looked at twice.
"""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER

__all__ = ["LARGEST_GRID", "Grid"]

LARGEST_GRID = 2_000_000


@dataclass(frozen=True, eq=False)
class Grid:
    """Mean gain and mean cost at every combination of candidates.

    Attributes:
        candidates: K - 1 arrays of rising thresholds; the last candidate is ``NEVER``.
        gain: one axis a threshold.
        cost: like ``gain``.
    """

    candidates: tuple[np.ndarray, ...]
    gain: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(cls, problem: RoutingProblem, largest: int = LARGEST_GRID) -> "Grid":
        """Evaluates the grid of a problem.

        Every distinct confidence is a candidate where the grid is not too large for it (always so for two
        stages); else evenly spaced quantiles are.

        Args:
            problem: n rows, K stages.
            largest: bound on the number of combinations.
        """
        thresholds = problem.confidence.shape[1]
        # Two stages have one axis, whose length is bounded by n alone.
        size = largest if thresholds > 1 else len(problem.confidence) + 1
        each = max(2, int(size ** (1 / max(thresholds, 1))))
        candidates = tuple(_candidates(column, each) for column in problem.confidence.T)
        # A row in bin b reaches the candidates before b, and no other.
        bins = [np.searchsorted(c, column, "right") for c, column in zip(candidates, problem.confidence.T, strict=True)]
        shape = tuple(len(c) for c in candidates)
        gain = _totals(bins, shape, problem.gain) / len(problem.confidence)
        cost = _totals(bins, shape, problem.cost) / len(problem.confidence)
        return cls(candidates, gain, cost)

    def thresholds(self, flat_index: int | np.integer) -> np.ndarray:
        """The thresholds (K - 1,) at an index into the flattened grid."""
        place = np.unravel_index(flat_index, self.gain.shape)
        return np.array([c[i] for c, i in zip(self.candidates, place, strict=True)], dtype=np.float64)

    def frontier(self) -> np.ndarray:
        """Flat indices of the points that no other beats in both gain and cost, by rising cost."""
        gain, cost = self.gain.ravel(), self.cost.ravel()
        order = np.lexsort((-gain, cost))
        best_before = np.maximum.accumulate(np.concatenate([[-np.inf], gain[order][:-1]]))
        return np.asarray(order[gain[order] > best_before])


def _candidates(confidence: np.ndarray, most: int) -> np.ndarray:
    distinct = np.unique(confidence)
    if len(distinct) >= most:
        # Quantiles of all rows, so that each step moves about as many of them.
        places = np.linspace(0, len(confidence) - 1, most - 1).round().astype(int)
        distinct = np.unique(np.sort(confidence)[places])
    return np.append(distinct, NEVER)


def _totals(bins: list[np.ndarray], shape: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """Sum of ``weight`` (n, K) over the rows, each at the stage that answers it, for every combination."""
    total = np.zeros(shape)
    for k in range(len(shape)):
        unsure = _sums_below(bins[: k + 1], shape[: k + 1], weight[:, k])
        answered = unsure[..., -1:] - unsure
        total += answered.reshape(answered.shape + (1,) * (len(shape) - k - 1))
    return np.asarray(total + _sums_below(bins, shape, weight[:, -1]))


def _sums_below(bins: list[np.ndarray], shape: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """Sum of the weights of the rows that are below candidate i_0 of stage 0, i_1 of stage 1, ...: shape ``shape``."""
    if not shape:
        return np.asarray(weight.sum())
    flat = np.ravel_multi_index(tuple(bins), shape)
    sums = np.bincount(flat, weights=weight, minlength=int(np.prod(shape))).reshape(shape)
    for axis in range(len(shape)):
        np.cumsum(sums, axis=axis, out=sums)
    return sums
