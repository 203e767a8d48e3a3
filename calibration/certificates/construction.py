"""Targets that hold by construction: certifying them needs no rows and has no risk."""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import ALWAYS, NEVER

__all__ = ["constructed_bound", "extreme_thresholds"]


def constructed_bound(
    target: Goal, thresholds: np.ndarray, highest_cost: np.ndarray, running: Sequence[int]
) -> float | None:
    """The hardest value of a target that thresholds reach on any rows; ``None`` if there is none.

    The last stage alone loses nothing against itself, and agrees with itself. A stage with threshold 0 answers every
    row that reaches it, so the mean cost is at most the sum of the highest costs of the stages up to it.

    Args:
        target: a single one; its value is not used.
        thresholds: (K - 1,), or more.
        highest_cost: (K,), highest cost per row of each stage if all rows reach it; inf without a bound.
        running: the stages that run.
    """
    if target.name in ("max_accuracy_drop", "target_agreement") and (thresholds >= NEVER).all():
        return 0.0 if target.name == "max_accuracy_drop" else 1.0
    if target.name == "max_cost":
        ends = np.append(thresholds[: len(highest_cost) - 1] <= ALWAYS, True)
        bound = float(sum(highest_cost[k] for k in running if k <= ends.argmax()))
        return bound if np.isfinite(bound) else None
    return None


def extreme_thresholds(problem: RoutingProblem) -> list[np.ndarray]:
    """The thresholds (K - 1,) of each stage alone; of the first and the last one where all stages run."""
    axes = problem.confidence.shape[1]
    alone = np.where(np.eye(axes, dtype=bool), ALWAYS, NEVER) if problem.optional else np.full((1, axes), ALWAYS)
    return [*alone, np.full(axes, NEVER)] if axes else [np.zeros(0)]
