"""Reliability: accuracy of a model against its confidence."""

from dataclasses import dataclass

import numpy as np

__all__ = ["BINS", "Reliability", "reliability"]

BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """Rows in M bins of equal width by confidence.

    Attributes:
        edges: (M + 1,) float from 0 to 1; bin m holds edges[m] < confidence <= edges[m + 1], the first one also 0.
        count: (M,) int, rows in each bin.
        confidence: (M,) float, their mean confidence; NaN in an empty bin.
        accuracy: (M,) float, the share of them that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean over the rows of the gap between accuracy and confidence of their bin, in [0, 1]."""
        filled = self.count > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gap, weights=self.count[filled]))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
    """Accuracy and confidence in bins of equal width.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2,
    https://arxiv.org/abs/1706.04599

    Args:
        confidence: (n,) float in [0, 1], n >= 1.
        correct: (n,) bool.
        bins: M >= 1.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(place, minlength=bins)
    means = [
        np.divide(np.bincount(place, weights=values, minlength=bins), count, out=np.full(bins, np.nan), where=count > 0)
        for values in (confidence, correct)
    ]
    return Reliability(edges, count, means[0], means[1])
