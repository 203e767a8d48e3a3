"""The sequence of thresholds that a certification walks along."""

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import thinned
from cascade.calibration.search.frontier import OperatingPoint
from cascade.calibration.search.grid import Grid, undominated

__all__ = ["propose"]

LONGEST = 200
LARGEST_GRID = 200_000


def propose(problem: RoutingProblem) -> list[OperatingPoint]:
    """The frontier of a problem, on one grid for each subset of its stages.

    Args:
        problem: n rows that will not test what is proposed, K stages; with smoothed gains.

    Returns:
        At most 200 points by rising cost and gain.
    """
    points: list[OperatingPoint] = []
    for stages in problem.subsets():
        grid = Grid.of(problem.select(stages), LARGEST_GRID)
        gain, cost = grid.gain.ravel(), grid.cost.ravel()
        points += [
            OperatingPoint(problem.widened(stages, grid.thresholds(i)), float(gain[i]), float(cost[i]))
            for i in grid.frontier()
        ]
    gains, costs = np.array([(point.gain, point.cost) for point in points]).T
    return [points[i] for i in thinned(undominated(gains, costs), LONGEST)]
