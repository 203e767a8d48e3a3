"""Integral images against plain sums, features against plain rectangles and scikit-image."""

import numpy as np
import pytest
from haar_models import random_windows
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.detection.haar.features import FAMILIES, all_features, check_features, feature_values
from cascade.backends.detection.haar.integral_image import (
    LevelIntegrals,
    WindowIntegrals,
    integral_images,
    squared_integral_images,
)

SIGNS = {
    "two_horizontal": [[1, -1]],
    "two_vertical": [[1], [-1]],
    "three_horizontal": [[1, -2, 1]],
    "three_vertical": [[1], [-2], [1]],
    "four_diagonal": [[1, -1], [-1, 1]],
}
SCIKIT_IMAGE = dict(zip(FAMILIES, ["type-2-x", "type-2-y", "type-3-x", "type-3-y", "type-4"], strict=True))


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_integral_images_are_sums_over_all_corners(n, height, width, seed):
    images = random_windows(n, height, width, seed)
    for found, values in [
        (integral_images(images), images.astype(int)),
        (squared_integral_images(images), images.astype(int) ** 2),
    ]:
        assert found.shape == (n, height + 1, width + 1)
        naive = [[[image[:y, :x].sum() for x in range(width + 1)] for y in range(height + 1)] for image in values]
        np.testing.assert_array_equal(found, naive)


def test_sums_that_wrap_around_leave_windows_exact():
    image = np.full((3000, 3000), 255, dtype=np.uint8)  # the sum of its squares is 2^39
    image[2990:] = random_windows(1, 10, 3000)[0]
    tops, lefts = np.array([0, 2988, 2988]), np.array([0, 7, 2990])
    level = LevelIntegrals(image, (12, 10)).windows(tops, lefts)
    windows = np.stack([image[y : y + 12, x : x + 10] for y, x in zip(tops, lefts, strict=True)])
    alone = WindowIntegrals.of_windows(windows)
    np.testing.assert_array_equal(level.inverse_norm, alone.inverse_norm)
    for integrals in (level, alone):
        corners = [y * integrals.row_step + x * integrals.column_step for y, x in [(9, 8), (9, 1), (2, 8), (2, 1)]]
        a, b, c, d = (integrals.flat[integrals.starts + corner] for corner in corners)
        np.testing.assert_array_equal(a - b - c + d, windows[:, 2:9, 1:8].sum(axis=(1, 2)))


def test_the_norm_is_that_of_the_standard_deviation():
    windows = random_windows(5)
    windows[2] = 7
    norm = 1 / WindowIntegrals.of_windows(windows).inverse_norm
    np.testing.assert_allclose(norm, np.where(np.arange(5) == 2, 1, 120 * windows.std(axis=(1, 2))), rtol=1e-6)


def test_the_number_of_features_is_that_of_the_paper_and_more():
    assert len(all_features(24, 24)) == 162336
    check_features(all_features(9, 7), 9, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_feature_is_the_signed_sum_of_its_cells(family):
    windows = random_windows(6, 7, 8)
    features = all_features(7, 8)
    features = features[features[:, 0] == list(FAMILIES).index(family)]
    integrals = WindowIntegrals.of_windows(windows)
    found = np.rint(feature_values(features, integrals) / integrals.inverse_norm)
    signs = np.array(SIGNS[family])
    for (_, top, left, h, w), value in zip(features.tolist(), found, strict=True):
        mask = np.kron(signs, np.ones((h, w)))
        area = windows[:, top : top + mask.shape[0], left : left + mask.shape[1]]
        np.testing.assert_array_equal(value, (area * mask).sum(axis=(1, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_scikit_image(family):
    """Up to the sign, and to the weight of the middle of three rectangles, which is 1 there."""
    feature = pytest.importorskip("skimage.feature")
    window = random_windows(1, 8, 8)
    sums = integral_images(window)[0, 1:, 1:]
    places, _ = feature.haar_like_feature_coord(8, 8, SCIKIT_IMAGE[family])
    theirs = feature.haar_like_feature(sums, 0, 0, 8, 8, SCIKIT_IMAGE[family])
    features, middle = [], []
    for rectangles in places:
        (top, left), (bottom, right) = rectangles[0]
        features.append([list(FAMILIES).index(family), top, left, bottom - top + 1, right - left + 1])
        (y, x), (y_end, x_end) = rectangles[1]
        middle.append(window[0, y : y_end + 1, x : x_end + 1].sum(dtype=int) if "three" in family else 0)
    integrals = WindowIntegrals.of_windows(window)
    ours = np.rint(feature_values(np.array(features, dtype=np.int16), integrals)[:, 0] / integrals.inverse_norm)
    np.testing.assert_array_equal(ours, -theirs - middle)
    assert len(features) == (all_features(8, 8)[:, 0] == list(FAMILIES).index(family)).sum()


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ([5, 0, 0, 1, 1], "families are numbered 0 to 4"),
        ([0, 0, 6, 1, 1], "does not fit"),
        ([1, -1, 0, 1, 1], "does not fit"),
        ([4, 0, 0, 0, 1], "does not fit"),
    ],
    ids=str,
)
def test_a_feature_outside_the_window_is_refused(feature, message):
    with pytest.raises(ValueError, match=message):
        check_features(np.array([[0, 0, 0, 1, 1], feature]), 7, 7)
