"""From a point on a coarse grid to the best one near it: finer and finer grids around the best point so far."""

from collections.abc import Callable, Iterator

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import thinned
from cascade.calibration.search.grid import Grid

__all__ = ["zoomed"]

CELLS = 100_000
ZOOM = 4
MOST_GRIDS = 20

Choose = Callable[[Grid], int | None]
"""From a grid to the flat index of its best point, ``None`` if no point qualifies."""


def zoomed(
    problem: RoutingProblem, candidates: tuple[np.ndarray, ...], coarse: Grid, start: np.ndarray, choose: Choose
) -> Iterator[tuple[Grid, int]]:
    """Grids around a start, each narrower than the one before, until every candidate near the best point is on one.

    All thresholds move together, so this improves points that no change of a single threshold improves.

    Args:
        problem: n rows, K stages.
        candidates: K - 1 arrays of rising thresholds, each from the lowest confidence to ``NEVER``.
        coarse: the grid that the start is from.
        start: (K - 1,) thresholds.
        choose: returns the best point of a grid.

    Yields:
        A grid, and the flat index of its best point.
    """
    each = max(5, int(CELLS ** (1 / len(candidates))) - 3)  # the best point and the ends may be added
    reach = [1 + len(all_of) // len(few) for all_of, few in zip(candidates, coarse.candidates, strict=True)]
    thresholds, best = start, None
    for _ in range(MOST_GRIDS):
        window = tuple(_window(c, t, r, each) for c, t, r in zip(candidates, thresholds, reach, strict=True))
        grid = Grid.of(problem, 2 * CELLS, window)
        index = choose(grid)
        if index is None:
            return
        yield grid, index
        thresholds, found = grid.thresholds(index), (grid.gain.flat[index], grid.cost.flat[index])
        if all(r <= each // 2 for r in reach) and best is not None and np.allclose(found, best, rtol=1e-12):
            return
        best, reach = found, [max(r // ZOOM, each // 2) for r in reach]


def _window(candidates: np.ndarray, threshold: float, reach: int, most: int) -> np.ndarray:
    """About ``most`` candidates around one, including itself and both ends."""
    place = int(np.searchsorted(candidates, threshold))
    near = np.arange(max(place - reach, 0), min(place + reach + 1, len(candidates)))
    return np.asarray(candidates[np.unique([0, place, len(candidates) - 1, *thinned(near, most)])])
