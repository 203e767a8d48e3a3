"""Slices of a row by name: what they hold, and what is refused."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cascade.backends.images import ImageInput, RowSlices
from cascade.backends.training.recipe import Recipe
from cascade.errors import ConfigError

SLICES = {
    "image": {"columns": (0, 12), "shape": (2, 2, 3), "image": ImageInput(mean=(1.0,) * 3, std=(2.0,) * 3)},
    "program": {"columns": (12, 14), "dtype": "int64"},
}


def test_slices_are_tensors_by_name():
    rows = np.arange(28, dtype=np.float32).reshape(2, 14)
    found = RowSlices(slices=SLICES).tensor(rows)
    assert found["program"].tolist() == [[12, 13], [26, 27]]
    assert found["program"].dtype == torch.int64
    expected = (rows[:, :12].reshape(2, 2, 2, 3).transpose(0, 3, 1, 2) - 1) / 2
    np.testing.assert_allclose(found["image"].numpy(), expected)
    assert RowSlices(slices=SLICES).tensor(rows[:0])["image"].shape == (0, 3, 2, 2)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ConfigError, match="rows of 14 values; got 15"):
        RowSlices(slices=SLICES).tensor(np.zeros((2, 15)))


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ({"a": {"columns": (0, 3)}, "b": {"columns": (4, 5)}}, "each once"),
        ({"a": {"columns": (0, 3)}, "b": {"columns": (2, 5)}}, "each once"),
        ({"a": {"columns": (1, 3)}}, "from 0 on"),
        ({"a": {"columns": (3, 3)}}, "0 <= first < end"),
        ({"a": {"columns": (0, 4), "shape": (3,)}}, "does not hold the 4 columns"),
        ({"a": {"columns": (0, 4), "image": ImageInput()}}, "three axes"),
        ({"a": SLICES["image"] | {"dtype": "int64"}}, "would have no effect"),
    ],
)
def test_slices_that_do_not_fit_together_are_refused(slices, message):
    with pytest.raises(ValidationError, match=message):
        RowSlices(slices=slices)


def test_images_of_one_channel_need_no_axis_for_it():
    rows = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    found = ImageInput(mean=(1.0,), std=(2.0,)).tensor(rows)
    assert torch.equal(found[:, 0], (torch.from_numpy(rows).float() - 1) / 2)
    with pytest.raises(ConfigError, match="images of 3 channels"):
        ImageInput().tensor(rows)


RECIPE = {"network": "a:B", "input": {"slices": SLICES}, "phases": [{"epochs": 1}], "learning_rate": 0.1}


def test_a_recipe_of_slices_has_no_crops_and_flips():
    assert Recipe(**RECIPE, crop_padding=0, flip=False).input.width == 14
    with pytest.raises(ValidationError, match="crop_padding: 0 and flip: false"):
        Recipe(**RECIPE)
