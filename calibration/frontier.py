"""The frontier: operating points that no other one beats in both accuracy and cost."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cascade.calibration.candidates import useful_candidates
from cascade.calibration.convex_frontier import convex_frontier
from cascade.calibration.grid import LARGEST_GRID, Grid, undominated
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.three_stages import ThreeStages
from cascade.calibration.zoom import zoomed

__all__ = ["OperatingPoint", "frontier"]

PRICES = 40
ROUNDS = 3
PRICES_A_ROUND = 12
NEAR_THE_BEST = 20000  # points of a finer grid that may join the frontier


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


def frontier(problem: RoutingProblem, most_points: int = 200, largest: int = LARGEST_GRID) -> list[OperatingPoint]:
    """The frontier, cheapest first.

    Exact for two stages, and wherever the combinations of all thresholds of use fit a grid. Beyond that, points of a
    coarse grid are joined by exact corners of the convex frontier (three stages), or by points of ever finer grids
    around the best ones (more stages).

    Args:
        problem: n rows, K stages.
        most_points: evenly spaced points are kept where there are more; both ends always are.
        largest: bound on the number of combinations in a grid.
    """
    candidates = useful_candidates(problem)
    grid = Grid.of(problem, largest, candidates)
    points = list(_points(grid))
    if any(len(c) < len(all_of) for c, all_of in zip(grid.candidates, candidates, strict=True)):
        if len(candidates) == 2:
            points = _undominated([*points, *_corners(problem, candidates)])
        else:
            points = _closer(problem, candidates, grid, points)
    if len(points) > most_points:
        points = [points[i] for i in np.linspace(0, len(points) - 1, most_points).round().astype(int)]
    return points


def _points(grid: Grid, places: np.ndarray | None = None) -> Iterator[OperatingPoint]:
    """The frontier of a grid, or of some places on it (flat indices)."""
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    for i in grid.frontier() if places is None else places[undominated(gain[places], cost[places])]:
        yield OperatingPoint(grid.thresholds(i), float(gain[i]), float(cost[i]))


def _undominated(points: list[OperatingPoint]) -> list[OperatingPoint]:
    gain, cost = np.array([(point.gain, point.cost) for point in points]).T
    return [points[i] for i in undominated(gain, cost)]


def _corners(problem: RoutingProblem, candidates: tuple[np.ndarray, ...]) -> Iterator[OperatingPoint]:
    for corner in convex_frontier(ThreeStages(problem, candidates), PRICES):
        thresholds = np.array([c[i] for c, i in zip(candidates, corner.place, strict=True)])
        yield OperatingPoint(thresholds, corner.gain, corner.cost)


def _closer(
    problem: RoutingProblem, candidates: tuple[np.ndarray, ...], coarse: Grid, points: list[OperatingPoint]
) -> list[OperatingPoint]:
    """A frontier with points of ever finer grids, at the prices where its convex hull has the largest gaps."""
    for _ in range(ROUNDS):
        corners = _hull(points)
        gaps = [(high.gain - low.gain) * (high.cost - low.cost) for low, high in itertools.pairwise(corners)]
        found = []
        for i in np.argsort(gaps)[::-1][:PRICES_A_ROUND]:
            low, high = corners[i], corners[i + 1]
            price = (high.cost - low.cost) / (high.gain - low.gain)
            for grid, _ in zoomed(problem, candidates, coarse, low.thresholds, _dearest(price)):
                worth = (price * grid.gain - grid.cost).ravel()
                few = min(NEAR_THE_BEST, len(worth) - 1)
                found += _points(grid, np.argpartition(worth, -few)[-few:])
        points = _undominated(points + found)
    return points


def _dearest(price: float) -> Callable[[np.ndarray, np.ndarray], int]:
    """Chooses the highest worth at a price of gain."""
    return lambda gain, cost: int(np.argmax(price * gain - cost))


def _hull(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """Corners of the convex hull of a frontier: the price of gain rises from one to the next."""
    corners: list[OperatingPoint] = []
    for point in points:
        while len(corners) > 1 and _is_under(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _is_under(low: OperatingPoint, middle: OperatingPoint, high: OperatingPoint) -> bool:
    return (middle.gain - low.gain) * (high.cost - low.cost) <= (high.gain - low.gain) * (middle.cost - low.cost)
