"""The sequence of thresholds that a certification walks along."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.grid import Grid
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.smoothing import smoothed_gain

__all__ = ["Proposal", "propose"]

LONGEST = 200
LARGEST_GRID = 200_000


@dataclass(frozen=True, eq=False)
class Proposal:
    """Thresholds and what they are expected to give.

    Attributes:
        thresholds: (K - 1,).
        gain: expected mean gain.
        cost: expected mean cost of a row.
    """

    thresholds: np.ndarray
    gain: float
    cost: float


def propose(problem: RoutingProblem) -> list[Proposal]:
    """The frontier of a problem with smoothed gains.

    Args:
        problem: n rows that will not test what is proposed, K stages.

    Returns:
        At most 200, by rising cost and gain.
    """
    smooth = RoutingProblem(problem.confidence, smoothed_gain(problem.confidence, problem.gain), problem.cost)
    grid = Grid.of(smooth, LARGEST_GRID)
    points = grid.frontier()
    if len(points) > LONGEST:
        points = points[np.linspace(0, len(points) - 1, LONGEST).round().astype(int)]
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    return [Proposal(grid.thresholds(i), float(gain[i]), float(cost[i])) for i in points]
