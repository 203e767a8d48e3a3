"""The sequence of thresholds for a certification."""

from collections.abc import Iterator

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import thinned
from cascade.calibration.search.frontier import OperatingPoint, of_all_subsets, points_at
from cascade.calibration.search.grid import Grid

__all__ = ["propose"]

LONGEST = 200
LARGEST_GRID = 200_000


def propose(problem: RoutingProblem) -> list[OperatingPoint]:
    """The frontier of a problem, on one grid for each subset of its stages.

    Args:
        problem: n proposing rows, K stages; with smoothed gains.

    Returns:
        At most 200 points by rising cost and gain.
    """

    def points_of(running: RoutingProblem) -> Iterator[OperatingPoint]:
        grid = Grid.of(running, LARGEST_GRID)
        return points_at(grid, grid.frontier())

    points = of_all_subsets(problem, points_of)
    return [points[i] for i in thinned(np.arange(len(points)), LONGEST)]
