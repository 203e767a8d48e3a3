"""The threshold search: the cheapest thresholds that gain enough, or the best within a budget."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cascade.calibration.grid import LARGEST_GRID, Grid
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER, accepted, answering_stage

__all__ = ["Target", "best_thresholds"]

STARTS = 8
ROUNDS = 20
ROUNDING = 1e-9  # means of the same rows, summed in another order, differ by less


@dataclass(frozen=True)
class Target:
    """What the thresholds have to reach; the other quantity is made as good as possible.

    Attributes:
        least_gain: mean gain in [0, 1] that must be reached at the lowest cost, or
        most_cost: mean cost that must be kept at the highest gain.
    """

    least_gain: float | None = None
    most_cost: float | None = None

    def rank(self, gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Indices of the points that reach the target, best first.

        Args:
            gain: (m,).
            cost: (m,).
        """
        if self.least_gain is not None:
            reached, keys = gain >= self.least_gain - ROUNDING, (-gain, cost)
        else:
            reached, keys = cost <= (self.most_cost or 0.0) * (1 + ROUNDING), (cost, -gain)
        found = np.flatnonzero(reached)
        return np.asarray(found[np.lexsort(tuple(key[found] for key in keys))])


def best_thresholds(problem: RoutingProblem, target: Target, largest: int = LARGEST_GRID) -> np.ndarray | None:
    """Searches thresholds on the empirical means.

    The optimum over a grid of all combinations (:class:`Grid`), then from its best points one threshold after the
    other is set to its optimum among all values, until none moves. Exact where the grid holds every distinct
    confidence: always for two stages, and for three up to about 1,400 distinct confidences a stage.

    Args:
        problem: n rows, K stages.
        target: what must be reached.
        largest: bound on the number of combinations in the grid.

    Returns:
        (K - 1,) thresholds, or ``None`` if none that reach the target were found.
    """
    grid = Grid.of(problem, largest)
    best = _from_grid(problem, target, grid)
    if best is not None or target.least_gain is None:
        return best
    # A gain that no cell of a coarse grid has may still be reached between the cells.
    highest = _from_grid(problem, Target(most_cost=np.inf), grid)
    if highest is None or problem.value(highest)[0] < target.least_gain - ROUNDING:
        return None
    return _refine(problem, target, highest)


def _from_grid(problem: RoutingProblem, target: Target, grid: Grid) -> np.ndarray | None:
    ranked = target.rank(grid.gain.ravel(), grid.cost.ravel())
    if not len(ranked):
        return None
    starts = [grid.thresholds(index) for index in _spread(ranked)]
    if len(starts[0]) <= 1:
        return starts[0]
    return _best(problem, target, (_refine(problem, target, start) for start in starts))


def _spread(ranked: np.ndarray) -> np.ndarray:
    """The best points, and some from further down, where another optimum may begin."""
    places = np.unique(np.geomspace(1, len(ranked), STARTS).astype(int)) - 1
    return np.asarray(ranked[places])


def _refine(problem: RoutingProblem, target: Target, thresholds: np.ndarray) -> np.ndarray:
    for _ in range(ROUNDS):
        before = thresholds.copy()
        for k in range(len(thresholds)):
            values, gain, cost = _along(problem, thresholds, k)
            ranked = target.rank(gain, cost)
            if len(ranked):
                thresholds[k] = values[ranked[0]]
        if np.array_equal(before, thresholds):
            break
    return thresholds


def _along(problem: RoutingProblem, thresholds: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean gain and cost for every value of threshold k, the others fixed: O(n log n).

    Returns:
        (values, gain, cost), an entry for each distinct confidence that reaches stage k, for the present value and
        for ``NEVER``.
    """
    n = len(problem.confidence)
    reached = np.ones(n, dtype=bool)
    for earlier in range(k):
        reached &= ~accepted(problem.confidence[:, earlier], thresholds[earlier])
    later = answering_stage(problem.confidence[:, k + 1 :], thresholds[k + 1 :]) + k + 1
    stage = np.where(reached, later, answering_stage(problem.confidence[:, :k], thresholds[:k]))[:, None]
    order = np.flatnonzero(reached)
    order = order[np.argsort(-problem.confidence[order, k], kind="stable")]
    values = problem.confidence[order, k]
    last_of_ties = np.append(values[1:] != values[:-1], True)[: len(values)]
    totals = []
    for weight in (problem.gain, problem.cost):
        otherwise = np.take_along_axis(weight, stage, axis=1)[:, 0]
        change = np.cumsum(weight[order, k] - otherwise[order])
        totals.append(np.append(change[last_of_ties], 0.0) + otherwise.sum())
    now = problem.value(thresholds)
    return (
        np.concatenate([values[last_of_ties], [NEVER, thresholds[k]]]),
        np.append(totals[0] / n, now[0]),
        np.append(totals[1] / n, now[1]),
    )


def _best(problem: RoutingProblem, target: Target, candidates: Iterable[np.ndarray]) -> np.ndarray | None:
    found = list(candidates)
    values = np.array([problem.value(thresholds) for thresholds in found])
    ranked = target.rank(values[:, 0], values[:, 1])
    return found[ranked[0]] if len(ranked) else None
