"""The frontier: operating points that no other one beats in both accuracy and cost."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.grid import Grid
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["OperatingPoint", "frontier"]


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """Thresholds and what they give on the table they were found on.

    Attributes:
        thresholds: (K - 1,).
        gain: mean accuracy (or agreement with the last stage), in [0, 1].
        cost: mean cost of a row.
    """

    thresholds: np.ndarray
    gain: float
    cost: float


def frontier(problem: RoutingProblem, most_points: int = 200) -> list[OperatingPoint]:
    """The frontier over a grid of thresholds, cheapest first.

    Args:
        problem: n rows, K stages.
        most_points: evenly spaced points are kept where there are more; both ends always are.
    """
    grid = Grid.of(problem)
    points = grid.frontier()
    if len(points) > most_points:
        points = points[np.linspace(0, len(points) - 1, most_points).round().astype(int)]
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    return [OperatingPoint(grid.thresholds(i), float(gain[i]), float(cost[i])) for i in points]
