"""The search of early-deferral thresholds: rows below them are hopeless for the middle stages."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.grid import Grid
from cascade.routers import NEVER

__all__ = ["at_constant_costs", "best_early_deferral"]

LEVELS = np.linspace(0.02, 0.6, 12)  # shares of the rows that a stage may defer early
LARGEST_GRID = 20_000  # of thresholds at each level: they are only compared here, and searched again afterwards


def at_constant_costs(
    problem: RoutingProblem, target_of: Callable[[RoutingProblem], Target], by: RoutingProblem | None = None
) -> RoutingProblem:
    """A problem at constant costs per row, which early deferral needs: its prices at the best thresholds without it.

    Args:
        problem: n rows.
        target_of: returns the target on some rows, for which thresholds are optimised.
        by: rows on which they are searched; by default those of the problem.
    """
    if problem.prices is None:
        return problem
    by = by or problem
    best = best_thresholds(by, target_of(by))
    thresholds = np.full(problem.confidence.shape[1], NEVER) if best is None else best
    running = replace(by, optional=False)
    return replace(problem, optional=False).priced_at(thresholds, running.shares(thresholds))


def best_early_deferral(problem: RoutingProblem, target: Target) -> np.ndarray:
    """Early-deferral thresholds that reach a target best, each set after those of the earlier stages.

    For fixed ones the problem is again one of thresholds alone (:meth:`RoutingProblem.deferring_early`), so each
    level costs one grid. The stage before the last one has none: what follows it is the last stage anyway.

    Args:
        problem: n rows, K stages.
        target: of the search.

    Returns:
        (K - 1,) in [0, 1]; 0 where it is best to defer no row early, or the target is not reached.
    """
    defer_below = np.zeros(problem.confidence.shape[1])
    for k in range(len(defer_below) - 1):
        tried = np.repeat(defer_below[None], 1 + len(LEVELS), axis=0)
        tried[1:, k] = np.quantile(problem.confidence[:, k], LEVELS)
        points = np.array([_best_point(problem.deferring_early(each), target) for each in tried])
        place = target.best(*points.T)
        defer_below = tried[place or 0]
    return defer_below


def _best_point(problem: RoutingProblem, target: Target) -> tuple[float, float]:
    """Mean gain and cost at the best of a coarse grid of thresholds; values that reach no target if none does."""
    grid = Grid.of(problem, LARGEST_GRID)
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    place = target.best(gain, cost)
    return (-np.inf, np.inf) if place is None else (float(gain[place]), float(cost[place]))
