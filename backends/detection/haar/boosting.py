"""AdaBoost over decision stumps: the best stump of many features, as sorted array work.

Freund and Schapire, "A decision-theoretic generalization of on-line learning", 1997 (discrete: all votes of a stump
have one size); Schapire and Singer, "Improved boosting algorithms using confidence-rated predictions", 1999 (real: a
vote is half the log-odds of its side of the stump, and the stump with the least bound Z of the error is taken).
"""

from typing import Literal, NamedTuple

import numpy as np

__all__ = ["Boosting", "Stump", "StumpSearch", "boosting_weights"]

Boosting = Literal["real", "discrete"]
CHUNK_ENTRIES = 1 << 19
"""Candidates times rows that are computed together, about; the arrays then fit into the cache."""


class Stump(NamedTuple):
    """A weak learner.

    Attributes:
        feature: index of the feature.
        threshold: float32 number; a value at or above it is on the upper side.
        below: vote of a value below the threshold.
        above: vote of a value at or above it.
        loss: weighted error (discrete), or Z (real); at most 0.5 and 1 for the best stump.
    """

    feature: int
    threshold: np.float32
    below: float
    above: float
    loss: float

    def votes(self, values: np.ndarray) -> np.ndarray:
        """(n,) float32 votes for the values of the feature, (n,) float32."""
        return np.where(values >= self.threshold, np.float32(self.above), np.float32(self.below))


class StumpSearch:
    """The values of F features of n rows, sorted once, for many searches with different weights.

    Args:
        values: (F, n) float32.
        positive: (n,) bool, labels.
        boosting: kind of votes.
    """

    def __init__(self, values: np.ndarray, positive: np.ndarray, boosting: Boosting = "real") -> None:
        self.values, self.positive, self.boosting = values, positive, boosting
        self._order = np.argsort(values, axis=1, kind="stable").astype(np.int32)
        self._sorted = np.take_along_axis(values, self._order, axis=1)

    def best(self, weights: np.ndarray, candidates: np.ndarray) -> Stump | None:
        """The stump with the least loss.

        Args:
            weights: (n,) float64, sum 1.
            candidates: (c,) int, indices of the features to try.

        Returns:
            ``None`` if every candidate has the same value for all rows.
        """
        n = len(weights)
        found: tuple[float, int, int] | None = None
        for part in np.array_split(candidates, max(1, len(candidates) * n // CHUNK_ENTRIES)):
            if not len(part):
                continue
            loss = self._losses(weights, part)
            place = int(loss.argmin())
            if np.isfinite(loss.flat[place]) and (found is None or loss.flat[place] < found[0]):
                found = float(loss.flat[place]), int(part[place // (n - 1)]), place % (n - 1)
        return None if found is None else self._stump(weights, *found)

    def _losses(self, weights: np.ndarray, part: np.ndarray) -> np.ndarray:
        """(c, n - 1) loss of a split after every sorted value; inf between equal values."""
        order, values = self._order[part], self._sorted[part]
        positive = np.cumsum(np.where(self.positive, weights, 0.0)[order], axis=1)
        negative = np.cumsum(np.where(self.positive, 0.0, weights)[order], axis=1)
        right_positive = (positive[:, -1:] - positive[:, :-1]).clip(0)
        right_negative = (negative[:, -1:] - negative[:, :-1]).clip(0)
        positive, negative = positive[:, :-1], negative[:, :-1]
        if self.boosting == "real":
            loss = 2 * (np.sqrt(positive * negative) + np.sqrt(right_positive * right_negative))
        else:
            loss = np.minimum(positive + right_negative, negative + right_positive)
        return np.where(values[:, :-1] < values[:, 1:], loss, np.inf)

    def _stump(self, weights: np.ndarray, loss: float, feature: int, split: int) -> Stump:
        low, high = self._sorted[feature, split], self._sorted[feature, split + 1]
        middle = np.float32((low + high) / 2)
        threshold = middle if low < middle <= high else high
        upper = self.values[feature] >= threshold
        sums = [
            float(weights[side & label].sum()) for side in (~upper, upper) for label in (self.positive, ~self.positive)
        ]
        small = 1.0 / len(weights)
        if self.boosting == "real":
            below, above = (0.5 * float(np.log((sums[i] + small) / (sums[i + 1] + small))) for i in (0, 2))
        else:
            error = sums[0] + sums[3]  # of the votes -1 below, +1 above
            alpha = 0.5 * float(np.log((1 - error + small) / (error + small)))
            below, above = -alpha, alpha
        return Stump(feature, threshold, below, above, loss)


def boosting_weights(sums: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(n,) float64 weights exp(-y F), scaled so that positives and negatives have half of the total each.

    Args:
        sums: (n,), F of each row.
        positive: (n,) bool; both kinds are present.
    """
    margin = np.where(positive, -1.0, 1.0) * sums.astype(np.float64)
    weights = np.zeros(len(sums))
    for side in (positive, ~positive):
        part = np.exp(margin[side] - margin[side].max())
        weights[side] = 0.5 * part / part.sum()
    return weights
