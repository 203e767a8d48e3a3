"""The grid of a cascade that may abstain: accuracy of the answered rows, abstained share and cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import useful_candidates
from cascade.calibration.search.grid import Grid, last_share
from cascade.calibration.search.zoom import zoomed
from cascade.routers import ALWAYS

__all__ = ["AbstainingGrid", "Limits", "abstaining_candidates", "best_abstaining"]

ROUNDING = 1e-9  # means of the same rows, summed in another order, differ by less
LARGEST_GRID = 1_000_000

Key = tuple[float, float, float]


@dataclass(frozen=True)
class Limits:
    """Limits of an operating point; the quantity without a limit is optimised.

    Attributes:
        most_abstained: share of the rows, in [0, 1].
        least_accuracy: of the answered rows, in [0, 1]; the cheapest point is then the best. With ``None``, the most
            accurate point within the budget is.
        most_cost: mean cost per row.
        accuracy_margin: least P(answered) (accuracy - ``least_accuracy``).
    """

    most_abstained: float
    least_accuracy: float | None = None
    most_cost: float = np.inf
    accuracy_margin: float = 0.0


@dataclass(frozen=True, eq=False)
class AbstainingGrid:
    """Means at every combination of candidates, flattened, of one grid or of several.

    Attributes:
        right: (m,) share of all rows with a right answer.
        abstained: (m,) share of all rows.
        cost: (m,) mean cost per row.
    """

    right: np.ndarray
    abstained: np.ndarray
    cost: np.ndarray

    @classmethod
    def of(cls, problem: RoutingProblem, grid: Grid) -> "AbstainingGrid":
        """The means of a grid of an abstaining problem.

        Args:
            problem: of :meth:`RoutingProblem.abstaining`.
            grid: of this problem.
        """
        return cls(grid.gain.ravel(), last_share(grid, problem).ravel(), grid.cost.ravel())

    @classmethod
    def joined(cls, parts: Sequence["AbstainingGrid"]) -> "AbstainingGrid":
        """The points of several, one after the other."""
        arrays = [(part.right, part.abstained, part.cost) for part in parts]
        return cls(*map(np.concatenate, zip(*arrays, strict=True)))

    @property
    def accuracy(self) -> np.ndarray:
        """(m,) share of right answers among the answered rows; 0 where none is."""
        answered = 1 - self.abstained
        return np.divide(  # type: ignore[no-any-return]
            self.right, answered, out=np.zeros_like(answered), where=answered > ROUNDING
        )

    def best(self, limits: Limits) -> int | None:
        """Flat index of the best point within limits; of equally good ones the one that abstains least."""
        kept = (self.abstained <= limits.most_abstained + ROUNDING) & (self.cost <= limits.most_cost * (1 + ROUNDING))
        if limits.least_accuracy is None:
            keys = (-self.accuracy, self.cost, self.abstained)
        else:
            above = self.right - limits.least_accuracy * (1 - self.abstained)
            kept &= above >= limits.accuracy_margin - ROUNDING
            keys = (self.cost, self.abstained, -self.right)
        places = np.flatnonzero(kept)
        for key in keys:
            values = key[places]
            places = places[values <= values.min() + ROUNDING * abs(values.min())] if len(places) else places
        return int(places[0]) if len(places) else None

    def key(self, place: int, limits: Limits) -> Key:
        """The key by which points within the limits are compared; the lowest is the best."""
        accuracy, cost, abstained = float(self.accuracy[place]), float(self.cost[place]), float(self.abstained[place])
        return (-accuracy, cost, abstained) if limits.least_accuracy is None else (cost, abstained, -accuracy)

    def most_accurate(self, most_abstained: float) -> int:
        """Flat index of the point with the highest accuracy of the answered rows."""
        place = self.best(Limits(most_abstained))
        if place is None:
            raise ValueError(f"there is always a point that abstains on nothing; got most_abstained {most_abstained!r}")
        return place


def abstaining_candidates(problem: RoutingProblem, limits: Limits) -> tuple[np.ndarray, ...]:
    """Candidates for every threshold; the lowest ``abstain_below`` abstains on no future row either.

    With t the least accuracy of the answered rows, or the best within a budget, the value of a policy is its mean of
    (gain - t) over all rows, with 0 for a row without an answer: as if that row gained t. So t is the gain of
    abstaining when useful candidates are selected; at most 1, where t is not known.

    Args:
        problem: of :meth:`RoutingProblem.abstaining`.
        limits: give t.
    """
    worth = 1.0 if limits.least_accuracy is None else limits.least_accuracy
    gain = np.column_stack([problem.gain[:, :-1], np.full(len(problem), worth)])
    *earlier, last = useful_candidates(replace(problem, gain=gain))
    return (*earlier, np.concatenate([[ALWAYS], last[1:]]))


def best_abstaining(problem: RoutingProblem, limits: Limits) -> np.ndarray | None:
    """Searches thresholds, ``abstain_below`` among them, and the stages that run, on the empirical means.

    For each subset of the stages the best point of a grid of all thresholds together, then of finer grids around it.
    Exact where all candidates fit the grid.

    Args:
        problem: of :meth:`RoutingProblem.abstaining`.
        limits: of the operating point.

    Returns:
        (K,) thresholds, or ``None`` if none within the limits were found.
    """
    best: tuple[Key, np.ndarray] | None = None
    for stages in problem.subsets():
        found = _best_of_running(problem.select(stages), limits)
        if found is not None and (best is None or found[0] < best[0]):
            best = found[0], problem.widened(stages, found[1])
    return None if best is None else best[1]


def _best_of_running(problem: RoutingProblem, limits: Limits) -> tuple[Key, np.ndarray] | None:
    """The best point of a cascade of which all stages run, and its key."""
    candidates = abstaining_candidates(problem, limits)
    coarse = Grid.of(problem, LARGEST_GRID, candidates)
    points = AbstainingGrid.of(problem, coarse)
    place = points.best(limits)
    if place is None:
        return None
    key, found = points.key(place, limits), coarse.thresholds(place)
    if all(len(few) == len(all_of) for few, all_of in zip(coarse.candidates, candidates, strict=True)):
        return key, found

    def choose(grid: Grid) -> int | None:
        return AbstainingGrid.of(problem, grid).best(limits)

    for grid, index in zoomed(problem, candidates, coarse, found, choose):
        key, found = AbstainingGrid.of(problem, grid).key(index, limits), grid.thresholds(index)
    return key, found
