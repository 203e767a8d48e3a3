"""From windows as rows to grey windows of a trained size."""

from functools import lru_cache

import numpy as np

from cascade.errors import RowsError

__all__ = ["grey", "grey_windows", "resized"]

RED, GREEN, BLUE = 77, 150, 29
"""Weights of ITU-R BT.601 (0.299, 0.587, 0.114), times 256."""


def grey(images: np.ndarray) -> np.ndarray:
    """(..., h, w, 3) RGB uint8 -> (..., h, w) uint8."""
    weighted = images[..., 0] * np.uint16(RED)
    weighted += images[..., 1] * np.uint16(GREEN)
    weighted += images[..., 2] * np.uint16(BLUE)
    weighted += np.uint16(128)
    return np.asarray(weighted >> 8, dtype=np.uint8)


def resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Grey images in another size: means over areas where it is smaller, linear interpolation where it is larger.

    Args:
        images: (n, h, w) uint8.
        height: of the result.
        width: of the result.

    Returns:
        (n, height, width) uint8, rounded.
    """
    if images.shape[1:] == (height, width):
        return images
    down, right = _weights(images.shape[1], height), _weights(images.shape[2], width)
    values = down @ images.astype(np.float32) @ right.T
    return np.asarray(np.rint(values), dtype=np.uint8)


@lru_cache(maxsize=64)
def _weights(length: int, target: int) -> np.ndarray:
    """(target, length) float32: the weights of old pixels in new ones along one axis; each row has the sum 1."""
    if target >= length:
        places = ((np.arange(target) + 0.5) * length / target - 0.5).clip(0, length - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length))), dtype=np.float32)
    edges = np.arange(target + 1) * length / target
    old = np.arange(length)
    shared = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return np.asarray(np.maximum(shared, 0) * target / length, dtype=np.float32)


def grey_windows(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Rows as grey windows of one size.

    Args:
        rows: (n, h, w) grey or (n, h, w, 3) RGB, uint8.
        height: of the windows.
        width: of the windows.

    Returns:
        (n, height, width) uint8.

    Raises:
        RowsError: the rows have another shape or type.
    """
    if rows.dtype != np.uint8 or rows.ndim not in (3, 4) or (rows.ndim == 4 and rows.shape[3] not in (1, 3)):
        raise RowsError(
            "rows of a Haar cascade must be uint8 windows, (height, width) grey or (height, width, 3) RGB; "
            f"got rows of shape {rows.shape[1:]} and type {rows.dtype}"
        )
    if rows.ndim == 4:
        rows = rows[..., 0] if rows.shape[3] == 1 else grey(rows)
    return resized(rows, height, width)
