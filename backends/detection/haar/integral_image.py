"""Integral images: the sum of the pixels of any rectangle from four numbers.

Viola and Jones, "Rapid object detection using a boosted cascade of simple features", CVPR 2001, section 2.1;
https://doi.org/10.1109/CVPR.2001.990517.

Sums are int32 and may wrap around in a large image. Differences of them are exact nonetheless, as long as the sum of a
rectangle is below 2^31: integers wrap modulo 2^32.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["LARGEST_AREA", "LevelIntegrals", "WindowIntegrals", "integral_images", "squared_integral_images"]

LARGEST_AREA = (2**31 - 1) // 255**2
"""Maximum pixels of a window (33,025), so that the sum of its squared pixels is below 2^31."""


def integral_images(images: np.ndarray) -> np.ndarray:
    """Integral images of grey images.

    Args:
        images: (n, h, w) uint8.

    Returns:
        (n, h + 1, w + 1) int32; entry (i, y, x) is the sum of ``images[i, :y, :x]``, modulo 2^32.
    """
    return _cumulated(images.astype(np.int32))


def squared_integral_images(images: np.ndarray) -> np.ndarray:
    """Like :func:`integral_images`, of the squared pixels."""
    return _cumulated(np.square(images, dtype=np.int32))


def _cumulated(values: np.ndarray) -> np.ndarray:
    n, height, width = values.shape
    sums = np.zeros((n, height + 1, width + 1), dtype=np.int32)
    inner = sums[:, 1:, 1:]
    np.cumsum(values, axis=2, dtype=np.int32, out=inner)
    np.cumsum(inner, axis=1, dtype=np.int32, out=inner)
    return sums


@dataclass(frozen=True, eq=False)
class WindowIntegrals:
    """The integral images of n windows of (h, w) pixels: of separate windows, or inside the image of a pyramid level.

    Attributes:
        flat: int32, all sums.
        row_step: entries of ``flat`` from one row of a window to the next.
        column_step: entries from one column to the next.
        starts: (n,) int64, the entry of the upper left corner of each window.
        inverse_norm: (n,) float32, 1 / sqrt(N sum of squares - (sum)^2) of the window's N pixels, which is 1 / (N times
            their standard deviation); 1 for windows of one grey level.
        views: (h + 1, w + 1, n) or (h + 1, w + 1, rows, columns) int32, a view of ``flat`` with the sums of all windows
            at each corner; ``None`` if the windows have no regular places.
    """

    flat: np.ndarray
    row_step: int
    column_step: int
    starts: np.ndarray
    inverse_norm: np.ndarray
    views: np.ndarray | None

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of_windows(cls, windows: np.ndarray) -> "WindowIntegrals":
        """Separate windows, whose integral images are stored corner by corner: one corner of all windows is contiguous.

        Args:
            windows: (n, h, w) uint8, at most ``LARGEST_AREA`` pixels each.
        """
        n, height, width = windows.shape
        sums = np.zeros((height + 1, width + 1, n), dtype=np.int32)
        pixels = sums[1:, 1:]
        pixels[...] = windows.transpose(1, 2, 0)
        squares = np.einsum("yxn,yxn->n", pixels, pixels)
        for y in range(2, height + 1):
            sums[y] += sums[y - 1]
        for x in range(2, width + 1):
            sums[:, x] += sums[:, x - 1]
        inverse = _inverse_norm(sums[-1, -1], squares, height * width)
        return cls(sums.reshape(-1), (width + 1) * n, n, np.arange(n), inverse, sums)


class LevelIntegrals:
    """The integral images of one image, which windows in it share.

    Args:
        image: (H, W) uint8.
        window: (h, w) of a window, at most ``LARGEST_AREA`` pixels.
    """

    def __init__(self, image: np.ndarray, window: tuple[int, int]) -> None:
        self.window = window
        self.sums, self.squares = integral_images(image[None])[0], squared_integral_images(image[None])[0]

    def windows(self, tops: np.ndarray, lefts: np.ndarray) -> WindowIntegrals:
        """Some windows, by the places of their upper left pixels, (n,) int each."""
        step = self.sums.shape[1]
        starts = np.asarray(tops, dtype=np.int64) * step + lefts
        return WindowIntegrals(self.sums.reshape(-1), step, 1, starts, self._norm(starts), None)

    def grid(self, tops: range, lefts: range) -> WindowIntegrals:
        """The windows of a regular grid, in reading order."""
        step = self.sums.shape[1]
        starts = (np.array(tops)[:, None] * step + np.array(lefts)).reshape(-1)
        down, right = self.sums.strides
        views = np.lib.stride_tricks.as_strided(
            self.sums[tops.start :, lefts.start :],
            (self.window[0] + 1, self.window[1] + 1, len(tops), len(lefts)),
            (down, right, down * tops.step, right * lefts.step),
            writeable=False,
        )
        return WindowIntegrals(self.sums.reshape(-1), step, 1, starts, self._norm(starts), views)

    def _norm(self, starts: np.ndarray) -> np.ndarray:
        height, width = self.window
        corners = [dy * self.sums.shape[1] + dx for dy in (0, height) for dx in (0, width)]
        total, squares = (_box(values.reshape(-1), starts, corners) for values in (self.sums, self.squares))
        return _inverse_norm(total, squares, height * width)


def _box(flat: np.ndarray, starts: np.ndarray, corners: list[int]) -> np.ndarray:
    upper_left, upper_right, lower_left, lower_right = (flat.take(starts + corner) for corner in corners)
    return np.asarray(lower_right - upper_right - lower_left + upper_left)


def _inverse_norm(total: np.ndarray, squares: np.ndarray, pixels: int) -> np.ndarray:
    variance = pixels * squares.astype(np.int64) - np.square(total, dtype=np.int64)
    return np.asarray(1.0 / np.sqrt(np.maximum(variance, 1)), dtype=np.float32)
