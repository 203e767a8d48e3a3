"""Windows of one pyramid level: rows of a cascade, gathered only when a batch is run."""

from typing import Any

import numpy as np

from cascade.backends.detection.level import Level

__all__ = ["Windows"]


class Windows:
    """Windows of one pyramid level, :class:`~cascade.rows.parts.Parts` of an image.

    Args:
        level: its size, and the places of its windows.
        pixels: (height, width) or (height, width, 3) uint8, of the level.
        places: numbers of the windows in the level, in reading order; ``None`` for all of them.
    """

    def __init__(self, level: Level, pixels: np.ndarray, places: "np.ndarray | range | None" = None) -> None:
        self.level = level
        self.pixels = pixels
        self._places = range(len(level)) if places is None else places

    def __repr__(self) -> str:
        height, width = self.level.window
        return f"Windows({len(self)} of {width} x {height} pixels, level {self.level.number})"

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, which: Any) -> "Windows":
        if not isinstance(which, slice) and isinstance(self._places, range):
            return Windows(self.level, self.pixels, self.places[which])
        return Windows(self.level, self.pixels, self._places[which])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("windows overlap, so they cannot be an array without a copy")
        windows = np.lib.stride_tricks.sliding_window_view(self.pixels, self.level.window, axis=(0, 1))
        if self.pixels.ndim == 3:
            windows = np.moveaxis(windows, 2, -1)
        gathered = np.ascontiguousarray(windows[self.tops, self.lefts])
        return gathered if dtype is None else gathered.astype(dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width) or (n, height, width, 3)."""
        return (len(self), *self.level.window, *self.pixels.shape[2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return self.pixels.dtype

    @property
    def places(self) -> np.ndarray:
        """(n,) int64, numbers of the windows in the level."""
        return np.asarray(self._places, dtype=np.int64)

    @property
    def ids(self) -> np.ndarray:
        """(n,) int64, numbers of the windows in the whole pyramid."""
        return self.level.first + self.places

    @property
    def tops(self) -> np.ndarray:
        """(n,) int64, row of the upper left pixel in the level."""
        return np.asarray(self.level.tops[self.places // len(self.level.lefts)])

    @property
    def lefts(self) -> np.ndarray:
        """(n,) int64, column of the upper left pixel in the level."""
        return np.asarray(self.level.lefts[self.places % len(self.level.lefts)])
