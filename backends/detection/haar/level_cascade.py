"""A Haar cascade on the windows of one pyramid level, without gathering them."""

import numpy as np

from cascade.backends.detection.haar.cascade import HaarCascade, Outcome
from cascade.backends.detection.haar.grey_windows import grey
from cascade.backends.detection.haar.integral_image import LevelIntegrals
from cascade.backends.detection.level import Level
from cascade.backends.detection.windows import Windows

__all__ = ["LevelCascade"]

BAND_WINDOWS = 1 << 15
"""Windows that are evaluated together, about; their sums at a corner fit into the cache."""


class LevelCascade:
    """Evaluates windows of the trained size.

    Args:
        cascade: to evaluate.
        level: its windows.
        pixels: (H, W) or (H, W, 3) uint8, of the level.
    """

    def __init__(self, cascade: HaarCascade, level: Level, pixels: np.ndarray) -> None:
        self.cascade, self.level, self.pixels = cascade, level, pixels
        window = (cascade.model.height, cascade.model.width)
        self._integrals = LevelIntegrals(grey(pixels) if pixels.ndim == 3 else pixels, window)
        self._whole: Outcome | None = None

    def evaluate(self, windows: Windows) -> Outcome:
        """Evaluates windows of the level; if they are consecutive, all windows of the level are, once."""
        places = windows.places
        if len(places) < 2 or (np.diff(places) != 1).any():
            return self.cascade.evaluate(self._integrals.windows(windows.tops, windows.lefts))
        if self._whole is None:
            self._whole = self._evaluated(self.level.tops, self.level.lefts, self.level.stride)
        return Outcome(*(values[places] for values in self._whole))

    def _evaluated(self, tops: np.ndarray, lefts: np.ndarray, stride: int) -> Outcome:
        """All windows; the last row and column may lie beside the regular grid."""
        shape = (len(tops), len(lefts))
        found = Outcome(np.zeros(shape, np.float32), np.zeros(shape, np.int32), np.zeros(shape, bool))
        rows, columns = (len(places) if _is_regular(places, stride) else len(places) - 1 for places in (tops, lefts))
        band = max(1, BAND_WINDOWS // max(1, columns))
        across = range(0, columns * stride, stride)
        for first in range(0, rows, band):
            last = min(first + band, rows)
            outcome = self.cascade.evaluate(self._integrals.grid(range(first * stride, last * stride, stride), across))
            for whole, part in zip(found, outcome, strict=True):
                whole[first:last, :columns] = part.reshape(last - first, columns)
        rest = np.ones(shape, dtype=bool)
        rest[:rows, :columns] = False
        y, x = np.nonzero(rest)
        outcome = self.cascade.evaluate(self._integrals.windows(tops[y], lefts[x]))
        for whole, part in zip(found, outcome, strict=True):
            whole[y, x] = part
        return Outcome(*(values.reshape(-1) for values in found))


def _is_regular(places: np.ndarray, stride: int) -> bool:
    return len(places) < 2 or int(places[-1] - places[-2]) == stride
