"""All combinations of threshold candidates at once.

The rows that a stage answers, and their gain and cost, depend only on the thresholds up to that stage. So one histogram
per stage over the bins of the earlier confidences, summed along its axes, gives every combination exactly, in
O(n K + size of the grid) time.
"""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import bins_of, thinned, useful_candidates

__all__ = ["LARGEST_GRID", "Grid", "fitting", "last_share", "undominated"]

LARGEST_GRID = 2_000_000


@dataclass(frozen=True, eq=False)
class Grid:
    """Mean gain and mean cost at every combination of candidates.

    Attributes:
        candidates: K - 1 arrays of rising thresholds; the last candidate is ``NEVER``.
        gain: one axis per threshold.
        cost: like ``gain``.
    """

    candidates: tuple[np.ndarray, ...]
    gain: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(
        cls,
        problem: RoutingProblem,
        largest: int = LARGEST_GRID,
        candidates: tuple[np.ndarray, ...] | None = None,
    ) -> "Grid":
        """Evaluates the grid of a problem of which all stages run, even where they accept no row.

        It has every candidate if that is not too large (always for two stages), else evenly spaced ones.

        Args:
            problem: n rows, K stages.
            largest: bound on the number of combinations.
            candidates: K - 1 arrays of rising thresholds, each from the lowest confidence to ``NEVER``; by default
                all useful ones (:func:`~cascade.calibration.search.candidates.useful_candidates`).
        """
        given = useful_candidates(problem) if candidates is None else candidates
        chosen = fitting(given, largest)
        bins = [bins_of(c, column) for c, column in zip(chosen, problem.confidence.T, strict=True)]
        shape = tuple(len(c) for c in chosen)
        gain = _totals(bins, shape, problem.gain) / len(problem.confidence)
        if problem.prices is None or problem.work is None:
            cost = _totals(bins, shape, problem.cost) / len(problem.confidence)
        else:
            cost = _prices(bins, shape, problem.work / len(problem.confidence), problem.prices)
        return cls(chosen, gain, cost)

    def thresholds(self, flat_index: int | np.integer) -> np.ndarray:
        """The thresholds (K - 1,) at an index into the flattened grid."""
        place = np.unravel_index(flat_index, self.gain.shape)
        return np.array([c[i] for c, i in zip(self.candidates, place, strict=True)], dtype=np.float64)

    def frontier(self) -> np.ndarray:
        """Flat indices of the points that no other beats in both gain and cost, by rising cost."""
        gain, cost = self.gain.ravel(), self.cost.ravel()
        return undominated(gain, cost)


def last_share(grid: Grid, problem: RoutingProblem) -> np.ndarray:
    """Reach share of the last stage at every combination: one axis per threshold.

    Args:
        grid: of the problem.
        problem: n rows.
    """
    bins = [bins_of(c, column) for c, column in zip(grid.candidates, problem.confidence.T, strict=True)]
    return _sums_below(bins, grid.gain.shape, np.ones(len(problem))) / len(problem)


def undominated(gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Indices of the points (m,) that no other beats in both gain and cost, by rising cost."""
    order = np.lexsort((-gain, cost))
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], gain[order][:-1]]))
    return np.asarray(order[gain[order] > best_before])


def fitting(candidates: tuple[np.ndarray, ...], largest: int) -> tuple[np.ndarray, ...]:
    """Candidates thinned to at most ``largest`` combinations, but never below two per axis.

    A short axis leaves its share to the long ones. A single axis is not thinned: its length is bounded by n alone.
    """
    if len(candidates) == 1:
        return candidates
    chosen: dict[int, np.ndarray] = {}
    room = float(largest)
    for k in sorted(range(len(candidates)), key=lambda k: len(candidates[k])):
        share = room ** (1 / (len(candidates) - len(chosen)))
        # Rounding must not lose a candidate: 64 ** (1 / 3) is slightly below 4.
        chosen[k] = thinned(candidates[k], max(2, int(share + 1e-9)))
        room = max(room / len(chosen[k]), 1.0)
    return tuple(chosen[k] for k in range(len(candidates)))


def _totals(bins: list[np.ndarray], shape: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """Sum of ``weight`` (n, K) over the rows, each at the stage that answers it, for every combination."""
    total = np.zeros(shape)
    for k in range(len(shape)):
        unsure = _sums_below(bins[: k + 1], shape[: k + 1], weight[:, k])
        answered = unsure[..., -1:] - unsure
        total += answered.reshape(answered.shape + (1,) * (len(shape) - k - 1))
    return np.asarray(total + _sums_below(bins, shape, weight[:, -1]))


def _prices(bins: list[np.ndarray], shape: tuple[int, ...], work: np.ndarray, prices: StagePrices) -> np.ndarray:
    """Mean cost for every combination: each stage at the price of the share of the work (n, K) that reaches it."""
    total = np.zeros(shape)
    for k in range(work.shape[1]):
        cost = prices.of_stage(k, _sums_below(bins[:k], shape[:k], work[:, k]))
        total += cost.reshape(cost.shape + (1,) * (len(shape) - k))
    return total


def _sums_below(bins: list[np.ndarray], shape: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """Sum of the weights of the rows that are below candidate i_0 of stage 0, i_1 of stage 1, ...: shape ``shape``."""
    if not shape:
        return np.asarray(weight.sum())
    flat = np.ravel_multi_index(tuple(bins), shape)
    sums = np.bincount(flat, weights=weight, minlength=int(np.prod(shape))).reshape(shape)
    for axis in range(len(shape)):
        np.cumsum(sums, axis=axis, out=sums)
    return sums
