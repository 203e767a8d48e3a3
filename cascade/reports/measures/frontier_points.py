"""The points of a report's frontier: alternatives to the policy."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy, ScoreTable, frontier
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

__all__ = ["FrontierPoint", "class_of_recall", "frontier_points", "point_of"]


@dataclass(frozen=True, eq=False)
class FrontierPoint:
    """Thresholds, with their accuracy (agreement, recall) and cost on the rows of a report.

    Attributes:
        thresholds: (K - 1,).
        gain: mean accuracy, agreement with the last stage, or recall, in [0, 1].
        cost: mean cost per row.
        share: (K,) share of the rows that each stage answers.
        target: certified target of the thresholds; ``None`` if they are not certified.
    """

    thresholds: np.ndarray
    gain: float
    cost: float
    share: np.ndarray
    target: float | None = None


def class_of_recall(policy: Policy, table: ScoreTable) -> int | None:
    """The positive class of a policy with a target of recall; ``None`` without one, or without such rows."""
    positive = positive_of(policy.certificate)
    if positive is None or table.label is None or not (table.label == positive).any():
        return None
    return positive


def point_of(problem: RoutingProblem, thresholds: np.ndarray, target: float | None = None) -> FrontierPoint:
    """The point of some thresholds.

    Args:
        problem: n rows, K stages.
        thresholds: (K - 1,).
        target: certified target of the thresholds, if any.
    """
    gain, cost = problem.value(thresholds)
    answered = np.bincount(answering_stage(problem.confidence, thresholds), minlength=problem.gain.shape[1])
    return FrontierPoint(thresholds, gain / problem.highest_gain, cost, answered / len(problem.gain), target)


def frontier_points(problem: RoutingProblem) -> list[FrontierPoint]:
    """The empirical frontier of a problem's rows, cheapest first, without a guarantee.

    Args:
        problem: n rows, K stages.
    """
    return [point_of(problem, point.thresholds) for point in frontier(problem)]
