"""Targets that hold by construction: no rows are needed to certify them, and no risk is taken."""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.routers import ALWAYS, NEVER

__all__ = ["constructed_bound", "extreme_thresholds", "fixed_cost"]


def constructed_bound(
    target: Goal, thresholds: np.ndarray, fixed_cost: np.ndarray | None, running: Sequence[int]
) -> float | None:
    """The hardest value of a target that thresholds reach whatever the rows are; ``None`` if there is none.

    The last stage alone loses nothing against itself, and agrees with itself. A stage with threshold 0 answers every
    row that comes to it, so the mean cost is at most that of the stages up to there, each asked about every row.

    Args:
        target: one alone; its value is not looked at.
        thresholds: (K - 1,), or more.
        fixed_cost: (K,), cost of each stage where all rows come to it; ``None`` if rows differ.
        running: the stages that thresholds do not leave out.
    """
    if target.name in ("max_accuracy_drop", "target_agreement") and (thresholds >= NEVER).all():
        return 0.0 if target.name == "max_accuracy_drop" else 1.0
    if target.name == "max_cost" and fixed_cost is not None:
        ends = np.append(thresholds[: len(fixed_cost) - 1] <= ALWAYS, True)
        return float(sum(fixed_cost[k] for k in running if k <= ends.argmax()))
    return None


def extreme_thresholds(problem: RoutingProblem) -> list[np.ndarray]:
    """The thresholds (K - 1,) of each stage alone; of the first and the last one where all stages run."""
    axes = problem.confidence.shape[1]
    alone = np.where(np.eye(axes, dtype=bool), ALWAYS, NEVER) if problem.optional else np.full((1, axes), ALWAYS)
    return [*alone, np.full(axes, NEVER)] if axes else [np.zeros(0)]


def fixed_cost(table: ScoreTable, arrivals: Arrivals) -> np.ndarray | None:
    """(K,) mean cost of each stage where all rows come to it, if the table gives each stage one cost for all rows."""
    if table.cost.ndim != 1:
        return None
    prices = table.prices(arrivals)
    return table.cost if prices is None else prices.secant(table.work[0]) * table.work[0]
