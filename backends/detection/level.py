"""A pyramid level: its size, and the places of its windows."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Level", "window_starts"]


@dataclass(frozen=True, eq=False)
class Level:
    """A level of a pyramid, without its pixels.

    Attributes:
        number: in the pyramid, from 0.
        height: in pixels of the level.
        width: in pixels of the level.
        scale: (x, y), pixels of the image for each pixel of the level.
        window: (height, width) of a window, at most the level's.
        stride: pixels of the level between two windows.
        first: number of its first window in the whole pyramid.
        tops: (r,) int64, rows of the level where windows begin; the last window ends at the lower edge.
        lefts: (c,) int64, columns where they begin; the last window ends at the right edge.
    """

    number: int
    height: int
    width: int
    scale: tuple[float, float]
    window: tuple[int, int]
    stride: int
    first: int
    tops: np.ndarray = field(init=False, repr=False)
    lefts: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tops", window_starts(self.height, self.window[0], self.stride))
        object.__setattr__(self, "lefts", window_starts(self.width, self.window[1], self.stride))

    def __len__(self) -> int:
        """Number of windows, r c."""
        return len(self.tops) * len(self.lefts)

    def boxes(self, places: np.ndarray) -> np.ndarray:
        """The windows in the image.

        Args:
            places: (n,) int, numbers of windows in the level, in reading order.

        Returns:
            (n, 4) float64, (x, y, width, height) in pixels of the image.
        """
        corners = np.stack([self.lefts[places % len(self.lefts)], self.tops[places // len(self.lefts)]], axis=1)
        scale = np.array(self.scale)
        sizes = np.broadcast_to(scale * self.window[::-1], corners.shape)
        return np.concatenate([corners * scale, sizes], axis=1)


def window_starts(length: int, window: int, stride: int) -> np.ndarray:
    """(k,) int64, where windows begin along one axis: at every multiple of the stride, and at the end."""
    last = length - window
    starts = np.arange(0, last + 1, stride)
    return starts if not len(starts) or starts[-1] == last else np.append(starts, last)
