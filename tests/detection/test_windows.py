"""Pyramids and their windows: what they cover, what they hold, and what is copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.detection.level import window_starts
from cascade.backends.detection.pyramid import Pyramid
from cascade.backends.detection.windows import Windows
from cascade.backends.stage_contract import StageContract
from cascade.prediction import Prediction
from cascade.rows.parts import Parts, gathered, in_batches

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))


def picture(height, width, *channels):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9))
def test_windows_lie_at_multiples_of_the_stride_and_at_the_end(length, window, stride):
    starts = window_starts(length, window, stride)
    if window > length:
        assert not len(starts)
        return
    assert starts[0] == 0
    assert starts[-1] == length - window
    assert np.all(starts[:-1] % stride == 0)
    assert np.all((np.diff(starts) > 0) & (np.diff(starts) <= stride))


@given(SIZES, st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_the_windows_of_a_level_cover_the_whole_image(size, height, width, stride):
    pyramid = Pyramid(*size, (height, width), stride=min(stride, height, width))
    covered = np.zeros(size, dtype=bool)
    if pyramid.levels:
        first = pyramid.levels[0]
        for x, y, w, h in pyramid.boxes(np.arange(len(first))).astype(int).tolist():
            assert (w, h) == (width, height)
            covered[y : y + h, x : x + w] = True
    assert covered.all() == (height <= size[0] and width <= size[1])
    assert covered.any() == covered.all()


@given(SIZES, st.sampled_from([(), (3,)]), st.integers(1, 4), st.integers(6, 20), st.integers(1, 40))
def test_gathered_windows_are_the_slices_of_their_level(size, channels, stride, min_size, batch):
    image, pyramid = picture(*size, *channels), Pyramid(*size, (9, 7), 1.4, stride, min_size)
    ids, rows = [], []
    for pieces in in_batches(pyramid.windows(image), batch):
        assert all(isinstance(piece, Parts) for piece in pieces)
        rows.append(gathered(pieces))
        assert rows[-1].flags.c_contiguous
        assert len(rows[-1]) <= batch
        ids += [place for piece in pieces for place in piece.ids.tolist()]
    assert ids == list(range(len(pyramid)))
    wanted = [
        windows.pixels[top : top + 9, left : left + 7]
        for windows in pyramid.windows(image)
        for top in window_starts(windows.level.height, 9, stride)
        for left in window_starts(windows.level.width, 7, stride)
    ]
    assert sum(map(len, rows)) == len(wanted)
    if wanted:
        np.testing.assert_array_equal(np.concatenate(rows), np.stack(wanted))


@given(SIZES, st.integers(4, 30), st.floats(1.05, 3))
def test_boxes_are_within_a_pixel_of_the_size_sought_and_inside_the_image(size, min_size, factor):
    pyramid = Pyramid(*size, (8, 8), factor, 3, min_size, 40)
    boxes = pyramid.boxes(np.arange(len(pyramid)))
    assert np.all(boxes[:, :2] >= 0)
    assert np.all(boxes[:, :2] + boxes[:, 2:] <= np.array(size[::-1]) + 1e-9)
    for level in pyramid.levels:
        sought = min_size * factor**level.number
        assert sought <= 40
        here = boxes[level.first : level.first + len(level)]
        # A level has whole pixels, so that its factor differs by at most half of one.
        for axis, length in ((2, level.width), (3, level.height)):
            np.testing.assert_allclose(here[:, axis], sought, rtol=0.5 / (length - 0.5) + 1e-9)


def test_an_object_is_found_where_it_lies():
    image = np.zeros((300, 400), dtype=np.uint8)
    image[100:160, 240:300] = 255
    pyramid = Pyramid(300, 400, (24, 24), 1.25, 1)
    best = max(
        (float(np.asarray(windows[i : i + 1]).mean()), windows.ids[i])
        for windows in pyramid.windows(image)
        if abs(24 * windows.level.scale[0] - 60) < 8
        for i in range(len(windows))
    )
    ((x, y, width, height),) = pyramid.boxes(np.array([best[1]]))
    assert (x, y) == pytest.approx((240, 100), abs=4)
    assert (width, height) == pytest.approx((60, 60), abs=4)


def test_windows_are_not_copied_before_they_are_gathered():
    image = picture(50, 70, 3)
    (windows,) = Pyramid(50, 70, (50, 50)).windows(image)
    assert np.shares_memory(windows.pixels, image)
    some = windows[1:5][np.array([True, False, True, True])][np.array([2, 0])]
    assert some.pixels is windows.pixels
    assert some.places.tolist() == [4, 1]
    np.testing.assert_array_equal(np.asarray(some)[0], image[:50, 8:58])
    assert some.shape == (2, 50, 50, 3)
    assert repr(some) == "Windows(2 of 50 x 50 pixels, level 0)"
    with pytest.raises(ValueError, match="without a copy"):
        np.array(some, copy=False)


def test_the_pixels_of_two_searches_are_different_objects():
    """Backends keep what they computed for the pixels of a level, and a caller may change an image in place."""
    image = picture(30, 30)
    for first, second in zip(*(Pyramid(30, 30, (8, 8)).windows(image) for _ in range(2))):
        assert first.pixels is not second.pixels
        assert first.level is not second.level


class Mean:
    """P(1) is the mean brightness; windows that are not gathered are counted."""

    def __init__(self):
        self.batches = 0

    def predict(self, rows):
        return Prediction.from_probabilities(rows.reshape(len(rows), -1).mean(axis=1, keepdims=True) / 255)


class MeanOfWindows(Mean):
    def predict_windows(self, windows):
        assert isinstance(windows, Windows)
        self.batches += 1
        return self.predict(np.asarray(windows))


def test_a_backend_gets_windows_as_they_are_if_it_can_predict_them():
    image = picture(40, 40)
    windows = next(Pyramid(40, 40, (8, 8)).windows(image))
    plain, own = Mean(), MeanOfWindows()
    expected = StageContract("a", plain).predict(np.asarray(windows))
    for backend in (plain, own):
        found = StageContract("a", backend).predict(windows)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert own.batches == 1
