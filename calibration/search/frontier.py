"""The frontier: operating points that no other one beats in both accuracy and cost."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cascade.calibration.calibrators import Identity
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import thinned, useful_candidates
from cascade.calibration.search.convex_frontier import convex_frontier
from cascade.calibration.search.grid import LARGEST_GRID, Grid, undominated
from cascade.calibration.search.three_stages import ThreeStages
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import Router

__all__ = ["OperatingPoint", "frontier", "of_all_subsets", "points_at"]

PRICES = 40
PIECES = (12, 40)  # of the frontier, in each round
PIECE_GRID = 200_000
ROUNDING = 1e-12  # gains of the same rows, summed in another order, differ by less


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """Thresholds, with their gain and cost on the table that they were found on.

    Attributes:
        thresholds: (K - 1,).
        gain: mean accuracy (or agreement with the last stage), in [0, 1].
        cost: mean cost per row.
    """

    thresholds: np.ndarray
    gain: float
    cost: float

    def __repr__(self) -> str:
        thresholds = ", ".join("never" if each > 1 else f"{each:.4g}" for each in self.thresholds.tolist())
        return f"OperatingPoint(gain {self.gain:.4g}, cost {self.cost:.4g}, thresholds [{thresholds}])"


def frontier(
    table: ScoreTable | RoutingProblem, most_points: int = 200, largest: int = LARGEST_GRID
) -> list[OperatingPoint]:
    """The frontier over all subsets of the stages, cheapest first; stages that are left out have thresholds ``NEVER``.

    The points are the best on these rows themselves, so none of them carries a guarantee.

    Exact for two stages, and wherever the combinations of all useful thresholds fit a grid. Beyond that, points of a
    coarse grid are joined by exact corners of the convex frontier (three stages), or by points of ever finer grids
    around the best ones (more stages).

    Args:
        table: n rows, K stages; the gain is accuracy, or agreement with the last stage where there are no labels, and
            confidences are used as is. A problem fixes routers, gain and costs itself.
        most_points: evenly spaced points are kept where there are more; both ends always are.
        largest: bound on the number of combinations in a grid.
    """
    if isinstance(table, ScoreTable):
        routers = (Router(None, Identity()),) * table.stages
        problem = RoutingProblem.from_table(table, routers, agreement=table.label is None)
    else:
        problem = table
    points = of_all_subsets(problem, lambda running: _of_running(running, largest))
    return [points[i] for i in thinned(np.arange(len(points)), most_points)]


def of_all_subsets(
    problem: RoutingProblem, points_of: Callable[[RoutingProblem], Iterable[OperatingPoint]]
) -> list[OperatingPoint]:
    """The frontier of the points of all subsets of the stages, cheapest first.

    Args:
        problem: n rows, K stages.
        points_of: returns the points of a cascade of which all stages run.
    """
    found = []
    for stages in problem.subsets():
        for point in points_of(problem.select(stages)):
            thresholds = problem.widened(stages, point.thresholds)
            # A stage that accepts no row runs on the grid, but not in the cascade.
            value = problem.value(thresholds) if (point.thresholds > 1).any() else (point.gain, point.cost)
            found.append(OperatingPoint(thresholds, *value))
    return _undominated(found)


def _of_running(problem: RoutingProblem, largest: int) -> list[OperatingPoint]:
    """The frontier of a cascade of which all stages run."""
    candidates = useful_candidates(problem)
    grid = Grid.of(problem, largest, candidates)
    points = list(points_at(grid, grid.frontier()))
    if all(len(c) == len(all_of) for c, all_of in zip(grid.candidates, candidates, strict=True)):
        return points
    if len(candidates) == 2 and problem.prices is None:
        return _undominated([*points, *_corners(problem, candidates)])
    return _closer(problem, candidates, grid, points)


def points_at(grid: Grid, places: np.ndarray) -> Iterator[OperatingPoint]:
    """The operating points at some flat indices of a grid."""
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    for i in places:
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
    """A frontier with points of finer grids, each over the thresholds of a short piece of the frontier."""
    apart = [len(all_of) / len(few) for all_of, few in zip(candidates, coarse.candidates, strict=True)]
    for pieces in PIECES:
        found, spans = list(points), []
        for piece in np.array_split(np.arange(len(points)), pieces):
            if not len(piece):
                continue
            used = np.array([points[i].thresholds for i in piece]).T
            windows = tuple(_window(c, t, int(step) + 1) for c, t, step in zip(candidates, used, apart, strict=True))
            grid = Grid.of(problem, PIECE_GRID, windows)
            found += points_at(grid, _beating(grid, points))
            spans.append([len(all_of) / len(few) for all_of, few in zip(windows, grid.candidates, strict=True)])
        points, apart = _undominated(found), np.mean(spans, axis=0).tolist()
    return points


def _window(candidates: np.ndarray, used: np.ndarray, margin: int) -> np.ndarray:
    """The candidates from slightly below the lowest used one to slightly above the highest, and both ends."""
    low, high = np.searchsorted(candidates, [used.min(), used.max()])
    inside = np.arange(max(low - margin, 0), min(high + margin + 1, len(candidates)))
    return np.asarray(candidates[np.unique([0, *inside, len(candidates) - 1])])


def _beating(grid: Grid, points: list[OperatingPoint]) -> np.ndarray:
    """Flat indices of a grid's undominated points that gain more than any point of a frontier of no higher cost."""
    gains, costs = np.array([(point.gain, point.cost) for point in points]).T
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    known = np.concatenate([[-np.inf], gains])[np.searchsorted(costs, cost, "right")]
    better = np.flatnonzero(gain > known + ROUNDING)
    return np.asarray(better[undominated(gain[better], cost[better])])
