"""Haar features: differences between the sums of neighbouring rectangles.

The families of Viola and Jones (CVPR 2001, section 2): two rectangles side by side or one above the other, three in a
row, and four in a square. Cells with plus and minus have the same total weight in every family, so that a constant
added to all pixels changes no value; Viola and Jones weight the middle one of three rectangles with 1 instead of 2.
"""

from typing import NamedTuple

import numpy as np

from cascade.backends.detection.haar.integral_image import WindowIntegrals

__all__ = ["FAMILIES", "Corners", "all_features", "check_features", "feature_values", "raw_values"]

ONE, TWO, THREE = (-1, 1), (-1, 2, -1), (-1, 3, -3, 1)
"""Weights of the corners along one axis, of cells with the weights 1; 1, -1; and 1, -2, 1."""
FAMILIES = {
    "two_horizontal": (ONE, TWO),
    "two_vertical": (TWO, ONE),
    "three_horizontal": (ONE, THREE),
    "three_vertical": (THREE, ONE),
    "four_diagonal": (TWO, TWO),
}
"""Weights of the corners (down, to the right); the place in this dict is the number of a family."""
PATTERNS = tuple(FAMILIES.values())
MOST_CORNERS = 9


class Corners(NamedTuple):
    """Where the features of T weak learners read integral images.

    Attributes:
        y: (T, 9) int64, row of a corner in the window.
        x: (T, 9) int64, column.
        weight: (T, 9) int32; 0 for the corners that a family does not have.
    """

    y: np.ndarray
    x: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Corners":
        """The corners of features, (T, 5)."""
        y, x, weight = (np.zeros((len(features), MOST_CORNERS), dtype=kind) for kind in (np.int64, np.int64, np.int32))
        for number, (down, right) in enumerate(PATTERNS):
            mine = np.flatnonzero(features[:, 0] == number)
            _, top, left, height, width = features[mine].astype(np.int64).T
            places = [(j, i) for j in range(len(down)) for i in range(len(right))]
            for place, (j, i) in enumerate(places):
                y[mine, place], x[mine, place] = top + j * height, left + i * width
                weight[mine, place] = down[j] * right[i]
        return cls(y, x, weight)


def all_features(height: int, width: int) -> np.ndarray:
    """Every feature that fits a window: 162,336 in one of 24 x 24 pixels.

    Returns:
        (F, 5) int16: number of the family, top and left of the feature, height and width of one of its cells.
    """
    found = []
    for number, (down, right) in enumerate(PATTERNS):
        for cell_height in range(1, height // (len(down) - 1) + 1):
            for cell_width in range(1, width // (len(right) - 1) + 1):
                tops = np.arange(height - cell_height * (len(down) - 1) + 1)
                lefts = np.arange(width - cell_width * (len(right) - 1) + 1)
                top, left = (axis.ravel() for axis in np.meshgrid(tops, lefts, indexing="ij"))
                same = [np.full(len(top), value) for value in (number, cell_height, cell_width)]
                found.append(np.stack([same[0], top, left, same[1], same[2]], axis=1).astype(np.int16))
    return np.concatenate(found)


def check_features(features: np.ndarray, height: int, width: int) -> None:
    """Raises ValueError if a feature is of no family or does not fit a window."""
    number, top, left, cell_height, cell_width = features.astype(np.int64).T
    if ((number < 0) | (number >= len(PATTERNS))).any():
        raise ValueError(f"families are numbered 0 to {len(PATTERNS) - 1}; got {number.min()} to {number.max()}")
    down, right = (np.array([len(pattern[axis]) - 1 for pattern in PATTERNS])[number] for axis in (0, 1))
    inside = (top + down * cell_height <= height) & (left + right * cell_width <= width)
    fits = inside & (np.minimum(top, left) >= 0) & (np.minimum(cell_height, cell_width) > 0)
    if not fits.all():
        raise ValueError(f"feature {int(np.argmin(fits))} does not fit a window of {height} x {width} pixels")


def raw_values(corners: Corners, which: int, views: np.ndarray) -> np.ndarray:
    """One feature of all windows, before normalisation.

    Args:
        corners: of several features.
        which: index of the feature.
        views: (h + 1, w + 1, ...) int32, :attr:`WindowIntegrals.views`.

    Returns:
        (n,) int32.
    """
    places = zip(corners.y[which].tolist(), corners.x[which].tolist(), corners.weight[which].tolist(), strict=True)
    (y, x, weight), *others = [place for place in places if place[2]]
    value = views[y, x] * np.int32(weight)
    for y, x, weight in others:
        if weight == 1:
            value += views[y, x]
        elif weight == -1:
            value -= views[y, x]
        else:
            value += views[y, x] * np.int32(weight)
    return np.asarray(value).reshape(-1)


def feature_values(features: np.ndarray, integrals: WindowIntegrals) -> np.ndarray:
    """All features of all windows, divided by N times the standard deviation of the window's N pixels.

    Args:
        features: (F, 5).
        integrals: of n separate windows.

    Returns:
        (F, n) float32.
    """
    if integrals.views is None:
        raise ValueError("feature_values needs the integral images of separate windows")
    corners = Corners.of(features)
    values = np.empty((len(features), len(integrals)), dtype=np.float32)
    for k in range(len(features)):
        np.multiply(raw_values(corners, k, integrals.views), integrals.inverse_norm, out=values[k])
    return values
