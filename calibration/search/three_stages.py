"""Three stages at one price of gain: the exact optimum over both thresholds, for any number of rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_prefix import BestPrefix
from cascade.calibration.search.candidates import bins_of

__all__ = ["Choice", "ThreeStages"]


@dataclass(frozen=True, order=True)
class Choice:
    """A pair of thresholds, with its gain and cost.

    Attributes:
        place: indices into the candidates of the first and of the second threshold.
        gain: mean gain per row.
        cost: mean cost per row.
    """

    place: tuple[int, int]
    gain: float
    cost: float


class ThreeStages:
    """A problem of three stages, prepared for optimisation at many prices.

    At a price, the value of a row that is answered with some gain at some cost is ``price * gain - cost``. For a fixed
    first threshold, the best second one ends the best prefix of the rows that are passed on, by falling second
    confidence; :class:`~cascade.calibration.search.best_prefix.BestPrefix` finds it for every first threshold at once,
    in O(n log n), and likewise the best first threshold for every second one.

    Args:
        problem: n rows, three stages.
        candidates: two arrays of rising thresholds, each from the lowest confidence to ``NEVER``.

    Attributes:
        highest_cost: of any row at any stage.
    """

    def __init__(self, problem: RoutingProblem, candidates: tuple[np.ndarray, ...]) -> None:
        self.highest_cost = float(problem.cost.max())
        self._gain_cost = np.stack([problem.gain, problem.cost]) / len(problem.confidence)
        self._sizes = tuple(len(c) for c in candidates)
        self._bins = tuple(bins_of(c, column) for c, column in zip(candidates, problem.confidence.T, strict=True))

    def best(self, price: float) -> Choice:
        """The thresholds with the highest value.

        Args:
            price: of one unit of gain, in units of cost; at least 0.
        """
        i = int(np.argmax(self.worth_of_first(price)))
        first, second, last = np.moveaxis(self._gain_cost, 2, 0)
        passed = self._bins[0] <= i
        fixed = np.where(passed, last, first).sum(axis=1, keepdims=True)
        change = np.where(passed, second - last, 0.0)
        gain, cost = fixed + _reaching(self._bins[1], change, self._sizes[1])
        j = int(np.argmax(price * gain - cost))
        return Choice((i, j), float(gain[j]), float(cost[j]))

    def worth_of_first(self, price: float) -> np.ndarray:
        """Mean value per row at each candidate of the first threshold, with the best second one."""
        return self._first.worth(price)

    def worth_of_second(self, price: float) -> np.ndarray:
        """Mean value per row at each candidate of the second threshold, with the best first one."""
        return self._second.worth(price)

    @cached_property
    def _first(self) -> "_Side":
        # Where the first threshold passes a row on, reaching the second one moves it from the last stage there.
        first, second, last = np.moveaxis(self._gain_cost, 2, 0)
        return _Side(self._bins, self._sizes, (first, last), (np.zeros_like(last), second - last))

    @cached_property
    def _second(self) -> "_Side":
        # Reaching the first threshold takes a row away from wherever the second one sends it.
        first, second, last = np.moveaxis(self._gain_cost, 2, 0)
        return _Side(self._bins[::-1], self._sizes[::-1], (second, last), (first - second, first - last))


class _Side:
    """One threshold at every candidate, with the best other one.

    Args:
        bins: of the threshold that takes every value, and of the other.
        sizes: their numbers of candidates.
        alone: (gain, cost) of each row, (2, n), if the other threshold is ``NEVER``: where the row reaches this one,
            and where it does not.
        moved: what is added to them where the row reaches the other threshold.
    """

    def __init__(
        self,
        bins: tuple[np.ndarray, ...],
        sizes: tuple[int, ...],
        alone: tuple[np.ndarray, np.ndarray],
        moved: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._alone = alone[1].sum(axis=1, keepdims=True) + _reaching(bins[0], alone[0] - alone[1], sizes[0])
        # Bins count from 1: every row reaches the lowest candidate. A row is passed on from the candidate of its bin.
        self._prefixes = BestPrefix(sizes[1] - 1 - bins[1], bins[0], sizes[1] - 1, sizes[0])
        self._before, self._after = (_sums(self._prefixes.cell, weight, self._prefixes.cells) for weight in moved)

    def worth(self, price: float) -> np.ndarray:
        weight = np.array([price, -1.0])
        prefix = self._prefixes.after_each_event(weight @ self._before, weight @ self._after)
        # An empty prefix is the other threshold at NEVER.
        return np.asarray(weight @ self._alone + np.maximum(prefix, 0.0))


def _reaching(bins: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """Sums (2, size) of the weights (2, n) of the rows that reach each candidate."""
    per_bin = _sums(bins, weight, size)
    return np.asarray(per_bin.sum(axis=1, keepdims=True) - np.cumsum(per_bin, axis=1))


def _sums(place: np.ndarray, weight: np.ndarray, places: int) -> np.ndarray:
    return np.stack([np.bincount(place, weights=one, minlength=places) for one in weight])
