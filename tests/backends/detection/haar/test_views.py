"""Changed copies of positives."""

import numpy as np
import pytest

from cascade.backends.detection.haar.recipe import HaarRecipe
from cascade.backends.detection.haar.views import boosting_windows, changed_views

ROWS = np.random.default_rng(0).integers(0, 256, (6, 24, 24), dtype=np.uint8)


def recipe(blends=0, **views):
    data = {"type": "haar", "dataset": "faces", "positive": 1, "classes": ("other", "face"), "stages": (1,)}
    return HaarRecipe.model_validate(data | {"blends": blends, "views": views})


def test_without_blends_light_or_cover_they_are_changed_views():
    plain = recipe(number=3, shift=1.0, flip=True)
    np.testing.assert_array_equal(boosting_windows(ROWS, plain), changed_views(ROWS, plain, plain.views, plain.seed))


@pytest.mark.parametrize("views", [{}, {"light": 1.0}, {"covered": 1.0}, {"light": 1.0, "covered": 0.5}])
def test_the_rows_come_first_and_unchanged_and_a_seed_gives_equal_windows(views):
    made = boosting_windows(ROWS, recipe(blends=5, number=2, **views))
    assert made.shape == (6 * 2 + 5 * 3, 24, 24)
    np.testing.assert_array_equal(made[:6], ROWS)
    np.testing.assert_array_equal(made, boosting_windows(ROWS, recipe(blends=5, number=2, **views)))


def test_a_blend_lies_between_its_two_rows():
    dark, bright = np.full((3, 24, 24), 10, np.uint8), np.full((3, 24, 24), 200, np.uint8)
    mixed = boosting_windows(np.concatenate([dark, bright]), recipe(blends=40))[6:]
    levels = np.unique(mixed)
    assert set(levels) >= {10, 200}
    assert ((levels == 10) | (levels == 200) | ((levels >= 67) & (levels <= 143))).all()


def test_light_adds_a_slope_and_a_cover_changes_one_edge_of_a_third_at_most():
    grey = np.tile(np.arange(100, 148, 2, dtype=np.uint8), (4, 24, 1))
    lit = boosting_windows(grey, recipe(number=2, light=1.0))[4:].astype(float)
    added = lit - grey
    assert np.abs(added).max() <= np.sqrt(2) * grey[0].std() + 1
    assert np.abs(np.diff(added, n=2, axis=1)).max() <= 2
    covered = boosting_windows(ROWS, recipe(number=2, covered=1.0))[6:]
    for before, after in zip(ROWS, covered, strict=True):
        rows, columns = np.unique(np.nonzero(before != after)[0]), np.unique(np.nonzero(before != after)[1])
        assert 1 <= min(len(rows), len(columns)) <= 8
