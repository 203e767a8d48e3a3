"""Composites have one face, where they report it, and its best window."""

import numpy as np
import pytest

from cascade.benchmarks.experiments.detection.composites import SIDE, composite, face_free, labelled_windows

pytest.importorskip("skimage")


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("number", range(6))
def test_a_face_changes_only_its_box(number, random):
    tiles = random.integers(0, 256, (40, 32, 32), dtype=np.uint8)
    free = face_free(number, tiles, random)
    face = random.integers(0, 256, (25, 25), dtype=np.uint8)
    made = composite(face, 3, free, random)
    x, y, width, height = made.box.astype(int)
    outside = np.ones(free.shape, dtype=bool)
    outside[y : y + height, x : x + width] = False
    assert made.face == 3
    assert made.image.shape == (SIDE, SIDE)
    assert (made.image[outside] == free[outside]).all()
    assert (made.image != free).any()


def test_the_positive_window_is_the_best_one_and_comes_first(random):
    free = np.zeros((SIDE, SIDE), dtype=np.uint8)
    made = composite(np.full((25, 25), 255, dtype=np.uint8), 0, free, random)
    windows, labels = labelled_windows(made, 30, random)
    assert windows.shape == (31, 24, 24)
    assert labels.tolist() == [1] + [0] * 30
    assert windows[0].mean() == windows.mean(axis=(1, 2)).max() > 150
