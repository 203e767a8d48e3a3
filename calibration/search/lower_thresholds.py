"""The search of lower thresholds: rows below them are hopeless for the middle stages, and skip them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.grid import Grid
from cascade.routers import NEVER

__all__ = ["at_constant_costs", "best_lower_thresholds"]

LEVELS = np.linspace(0.02, 0.6, 12)  # shares of the rows that may skip at a stage
LARGEST_GRID = 20_000  # of thresholds at each level: they are only compared here, and searched again afterwards


def at_constant_costs(
    problem: RoutingProblem, target_of: Callable[[RoutingProblem], Target], by: RoutingProblem | None = None
) -> RoutingProblem:
    """A problem whose rows may skip stages: prices as constants per row, right at the best thresholds without skipping.

    Args:
        problem: n rows.
        target_of: the target on some rows, which decides what thresholds are best.
        by: rows that find them; by default those of the problem.
    """
    if problem.prices is None:
        return problem
    by = by or problem
    best = best_thresholds(by, target_of(by))
    thresholds = np.full(problem.confidence.shape[1], NEVER) if best is None else best
    running = replace(by, optional=False)
    return replace(problem, optional=False).priced_at(thresholds, running.shares(thresholds))


def best_lower_thresholds(problem: RoutingProblem, target: Target) -> np.ndarray:
    """Lower thresholds with which a target is reached best, each set after those of the earlier stages.

    For fixed ones the problem is again one of thresholds alone (:meth:`RoutingProblem.skipping`), so each level costs
    one grid. The last but one stage has none: what follows it is the last stage anyway.

    Args:
        problem: n rows, K stages.
        target: what must be reached.

    Returns:
        (K - 1,) in [0, 1]; 0 where it is best that no row skips, or the target is not reached.
    """
    lowest = np.zeros(problem.confidence.shape[1])
    for k in range(len(lowest) - 1):
        tried = np.repeat(lowest[None], 1 + len(LEVELS), axis=0)
        tried[1:, k] = np.quantile(problem.confidence[:, k], LEVELS)
        points = np.array([_best_point(problem.skipping(each), target) for each in tried])
        place = target.best(*points.T)
        lowest = tried[place or 0]
    return lowest


def _best_point(problem: RoutingProblem, target: Target) -> tuple[float, float]:
    """Mean gain and cost at the best of a coarse grid of thresholds; what reaches no target, if none of them does."""
    grid = Grid.of(problem, LARGEST_GRID)
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    place = target.best(gain, cost)
    return (-np.inf, np.inf) if place is None else (float(gain[place]), float(cost[place]))
