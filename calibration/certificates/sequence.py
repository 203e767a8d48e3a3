"""The sequence of thresholds that a certification walks along."""

import numpy as np

from cascade.calibration.certificates.smoothing import smoothed_gain
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.frontier import OperatingPoint
from cascade.calibration.search.grid import Grid

__all__ = ["propose"]

LONGEST = 200
LARGEST_GRID = 200_000


def propose(problem: RoutingProblem) -> list[OperatingPoint]:
    """The frontier of a problem with smoothed gains.

    Args:
        problem: n rows that will not test what is proposed, K stages.

    Returns:
        At most 200 points by rising cost and gain; these are what is expected, of smoothed gains.
    """
    smooth = RoutingProblem(problem.confidence, smoothed_gain(problem.confidence, problem.gain), problem.cost)
    grid = Grid.of(smooth, LARGEST_GRID)
    points = grid.frontier()
    if len(points) > LONGEST:
        points = points[np.linspace(0, len(points) - 1, LONGEST).round().astype(int)]
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    return [OperatingPoint(grid.thresholds(i), float(gain[i]), float(cost[i])) for i in points]
