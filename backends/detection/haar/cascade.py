"""Evaluation of a boosted Haar cascade on many windows at once, as array work.

Weak learners are computed for all windows, one contiguous vector per corner, as long as many windows survive; then for
the survivors only, by gathering their corners for a block of weak learners at a time. A window's cost is the number of
features up to the one that rejects it, as in an evaluation of single windows; the array form computes some more of them
(of rejected windows beside survivors, and to the end of a block).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cascade.backends.detection.haar.features import Corners, raw_values
from cascade.backends.detection.haar.integral_image import WindowIntegrals
from cascade.backends.detection.haar.model import HaarModel

__all__ = ["HaarCascade", "Outcome"]

GATHERED_SHARE = 0.35
"""Share of surviving windows below which gathering is faster than computing all windows."""
LEAST_WHOLE = 512
"""Windows below which gathering is faster from the start: blocks need fewer calls of NumPy."""
GATHERED_ENTRIES = 1 << 16
"""Windows times weak learners of a block, about; corners of a block then fit into the cache."""
MOST_LEARNERS = 32
"""Weak learners in a block, at most."""


class Outcome(NamedTuple):
    """What a cascade computes for n windows.

    Attributes:
        sum: (n,) float32, sum of votes where the evaluation of the window ended.
        features: (n,) int32, number of features evaluated, at least 1.
        survives: (n,) bool, whether the window passed the whole trace.
    """

    sum: np.ndarray
    features: np.ndarray
    survives: np.ndarray


class HaarCascade:
    """Evaluates a model.

    Args:
        model: at least one weak learner.
    """

    def __init__(self, model: HaarModel) -> None:
        self.model = model
        self._corners = Corners.of(model.features)

    def probability(self, outcome: Outcome) -> np.ndarray:
        """(n,) float64, of the positive class: 0 for rejected windows, else 1 / (1 + exp(-2 e)).

        e is what the sum exceeds the last threshold by, so that all survivors are positive; without a threshold at the
        end it is the sum, as in Friedman, Hastie and Tibshirani, "Additive logistic regression", Annals of Statistics
        28, 2000.
        """
        last = float(self.model.trace[-1]) if np.isfinite(self.model.trace[-1]) else 0.0
        excess = np.clip(outcome.sum.astype(np.float64) - last, -300, 300)
        return np.where(outcome.survives, 1.0 / (1.0 + np.exp(-2.0 * excess)), 0.0)

    def evaluate(self, integrals: WindowIntegrals) -> Outcome:
        """Evaluates n windows; each one until it is rejected."""
        n, model = len(integrals), self.model
        total, features = np.zeros(n, dtype=np.float32), np.full(n, len(model), dtype=np.int32)
        alive, first = np.arange(n), 0
        if integrals.views is not None and n >= LEAST_WHOLE:
            first, alive = self._whole(integrals, integrals.views, total, features)
        while first < len(model) and len(alive):
            last = min(first + int(np.clip(GATHERED_ENTRIES // len(alive), 1, MOST_LEARNERS)), len(model))
            alive = self._block(integrals, first, last, alive, total, features)
            first = last
        survives = np.zeros(n, dtype=bool)
        survives[alive] = True
        return Outcome(total, features, survives)

    def partial_sums(self, integrals: WindowIntegrals) -> np.ndarray:
        """(n, T) float32: the sum of each of n separate windows after every weak learner, without rejection."""
        if integrals.views is None:
            raise ValueError("partial_sums needs the integral images of separate windows")
        sums = np.empty((len(self.model), len(integrals)), dtype=np.float32)
        for t, votes in self._votes(integrals, integrals.views):
            np.add(0 if self.model.starts[t] else sums[t - 1], votes, out=sums[t])
        return np.ascontiguousarray(sums.T)

    def _votes(self, integrals: WindowIntegrals, views: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Number of each weak learner, and its votes for all windows, (n,) float32."""
        threshold, votes = self.model.threshold, self.model.votes
        for t in range(len(self.model)):
            values = raw_values(self._corners, t, views) * integrals.inverse_norm
            yield t, np.where(values >= threshold[t], votes[t, 1], votes[t, 0])

    def _whole(
        self, integrals: WindowIntegrals, views: np.ndarray, total: np.ndarray, features: np.ndarray
    ) -> tuple[int, np.ndarray]:
        """Computes all windows until few survive; returns the next weak learner and the surviving windows."""
        model, n = self.model, len(integrals)
        is_alive, left, running = np.ones(n, dtype=bool), n, total.copy()
        for t, votes in self._votes(integrals, views):
            if model.starts[t]:
                running[...] = votes
            else:
                running += votes
            if model.trace[t] > -np.inf:
                rejected = is_alive & (running < model.trace[t])
                np.copyto(total, running, where=rejected)
                np.copyto(features, np.int32(t + 1), where=rejected)
                is_alive &= ~rejected
                left = int(np.count_nonzero(is_alive))
            if left <= GATHERED_SHARE * n:
                break
        np.copyto(total, running, where=is_alive)
        return t + 1, np.flatnonzero(is_alive)

    def _block(
        self,
        integrals: WindowIntegrals,
        first: int,
        last: int,
        alive: np.ndarray,
        total: np.ndarray,
        features: np.ndarray,
    ) -> np.ndarray:
        """Computes weak learners ``first`` to ``last - 1`` of some windows; returns those that survive."""
        model, corners = self.model, self._corners
        offsets = corners.y[first:last] * integrals.row_step + corners.x[first:last] * integrals.column_step
        starts = integrals.starts[alive]
        raw = np.zeros((last - first, len(alive)), dtype=np.int32)
        for corner in range(offsets.shape[1]):
            weight = corners.weight[first:last, corner]
            if weight.any():
                raw += integrals.flat.take(offsets[:, corner, None] + starts) * weight[:, None]
        values = raw * integrals.inverse_norm[alive]
        sums = np.where(
            values >= model.threshold[first:last, None], model.votes[first:last, 1:], model.votes[first:last, :1]
        )
        begins = [*np.flatnonzero(model.starts[first:last]), last - first]
        if begins[0]:
            sums[0] += total[alive]
            begins.insert(0, 0)
        for begin, end in pairwise(begins):
            np.cumsum(sums[begin:end], axis=0, out=sums[begin:end])
        rejected = sums < model.trace[first:last, None]
        falls = rejected.any(axis=0)
        end = np.where(falls, rejected.argmax(axis=0), last - first - 1)
        total[alive] = sums[end, np.arange(len(alive))]
        features[alive[falls]] = first + end[falls] + 1
        return alive[~falls]
