"""Image rows as tensors: equal to NumPy's result, and the rows stay unchanged."""

import numpy as np
import pytest
import torch

from cascade.backends.images import ImageInput
from cascade.errors import ConfigError

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_layout_and_scale_against_numpy(layout, dtype):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3)).astype(dtype)
    rows = images if layout == "nhwc" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    before = rows.copy()
    tensor = ImageInput(layout=layout, mean=MEAN, std=STD).tensor(rows)
    expected = ((images.astype(np.float64) - MEAN) / STD).transpose(0, 3, 1, 2)
    assert tensor.shape == (2, 3, 5, 4)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert tensor.numpy() == pytest.approx(expected, abs=1e-5)
    np.testing.assert_array_equal(rows, before)  # a later stage gets the same rows


def test_one_channel():
    tensor = ImageInput(mean=(2.0,), std=(4.0,)).tensor(np.full((1, 2, 2, 1), 6, dtype=np.uint8))
    assert tensor.tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


@pytest.mark.parametrize(
    "values", [{"std": (1.0, 0.0, 1.0)}, {"std": (1.0,)}, {"mean": (1.0, 2.0)}, {"layout": "hwcn"}, {"scale": 255}]
)
def test_what_is_no_scale_is_refused(values):
    with pytest.raises(ValueError, match="ImageInput"):
        ImageInput(**values)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 5, 4, 1), (2, 5, 4), (2, 60)])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(ConfigError, match="nhwc images of 3 channels"):
        ImageInput().tensor(np.zeros(shape, dtype=np.uint8))
