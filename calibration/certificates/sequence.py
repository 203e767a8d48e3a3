"""The sequence of thresholds that a certification walks along."""

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.frontier import OperatingPoint
from cascade.calibration.search.grid import Grid

__all__ = ["propose"]

LONGEST = 200
LARGEST_GRID = 200_000


def propose(problem: RoutingProblem) -> list[OperatingPoint]:
    """The frontier of a problem, on one grid.

    Args:
        problem: n rows that will not test what is proposed, K stages; with smoothed gains.

    Returns:
        At most 200 points by rising cost and gain.
    """
    grid = Grid.of(problem, LARGEST_GRID)
    points = grid.frontier()
    if len(points) > LONGEST:
        points = points[np.linspace(0, len(points) - 1, LONGEST).round().astype(int)]
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    return [OperatingPoint(grid.thresholds(i), float(gain[i]), float(cost[i])) for i in points]
