"""Targets that hold by construction: no rows are needed to certify them, and no risk is taken."""

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.routers import ALWAYS, NEVER

__all__ = ["constructed_bound", "extreme_thresholds", "fixed_cost"]


def constructed_bound(target: Goal, thresholds: np.ndarray, fixed_cost: np.ndarray | None) -> float | None:
    """The hardest value of a target that thresholds reach whatever the rows are; ``None`` if there is none.

    The last stage alone loses nothing against itself, and agrees with itself. A stage with threshold 0 answers every
    row that comes to it, so no row costs more than the stages up to there.

    Args:
        target: one alone; its value is not looked at.
        thresholds: (K - 1,), or more.
        fixed_cost: (K,), cost of a row answered at each stage, all earlier ones included; ``None`` if rows differ.
    """
    if target.name in ("max_accuracy_drop", "target_agreement") and (thresholds >= NEVER).all():
        return 0.0 if target.name == "max_accuracy_drop" else 1.0
    if target.name == "max_cost" and fixed_cost is not None:
        ends = np.append(thresholds[: len(fixed_cost) - 1] <= ALWAYS, True)
        return float(fixed_cost[ends.argmax()])
    return None


def extreme_thresholds(problem: RoutingProblem) -> list[np.ndarray]:
    """The thresholds (K - 1,) of the first stage alone, and of the last stage alone."""
    stages = problem.confidence.shape[1]
    return [np.full(stages, ALWAYS), np.full(stages, NEVER)]


def fixed_cost(table: ScoreTable) -> np.ndarray | None:
    """(K,) cost of a row answered at each stage, if the table gives each stage one cost for all rows."""
    return np.cumsum(table.cost) if table.cost.ndim == 1 else None
