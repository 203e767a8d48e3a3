"""The backend, and files that are not whole Haar cascades."""

import json

import numpy as np
import pytest
from haar_models import random_model, random_windows
from pydantic import ValidationError
from safetensors.numpy import save_file

from cascade.backends.config import HaarConfig
from cascade.backends.detection.haar.backend import CHUNK_WINDOWS, HaarBackend
from cascade.backends.detection.haar.grey_windows import grey, grey_windows, resized
from cascade.backends.detection.haar.model import ARRAYS, HaarModel
from cascade.backends.loading import load_backend
from cascade.errors import ConfigError, RowsError, WeightsError


@pytest.fixture
def path(tmp_path):
    random_model().save(tmp_path / "haar.safetensors")
    return tmp_path / "haar.safetensors"


def backend(path, classes=None, cost="features"):
    return load_backend(HaarConfig(type="haar", model=path, cost=cost), classes)


def test_operations_grow_with_the_features(path):
    windows = random_windows(30)
    features = backend(path).predict(windows).cost
    counting = backend(path, cost="operations")
    prediction = counting.predict(windows)
    assert prediction.cost is None
    np.testing.assert_allclose(prediction.mflop * 1e6, 4 * 120 + 10 * features)
    assert counting.flops_per_row(windows) == pytest.approx(prediction.mflop.mean() * 1e6)
    assert counting.highest_row_cost(windows) == pytest.approx((4 * 120 + 10 * 40) / 1e6)


def test_a_batch_larger_than_a_chunk_is_as_its_rows(path):
    windows = random_windows(CHUNK_WINDOWS + 40)
    whole = backend(path).predict(windows)
    some = [3, CHUNK_WINDOWS, CHUNK_WINDOWS + 39]
    part = backend(path).predict(windows[some])
    np.testing.assert_array_equal(whole.probabilities[some], part.probabilities)
    np.testing.assert_array_equal(whole.cost[some], part.cost)
    assert whole.cost.min() >= 1
    assert whole.cost.max() <= backend(path).highest_row_cost(windows[:1]) == 40
    assert 0 < (whole.probabilities[:, 1] == 0).mean() < 1


def test_classes_are_found_by_name(path):
    windows = random_windows(20)
    plain = backend(path).predict(windows).probabilities
    np.testing.assert_array_equal(backend(path, ["other", "thing"]).predict(windows).probabilities, plain)
    turned = backend(path, ["thing", "x", "other"]).predict(windows).probabilities
    np.testing.assert_array_equal(turned[:, [2, 0]], plain)
    with pytest.raises(ConfigError, match="thing"):
        backend(path, ["other", "face"])


def test_saving_and_loading_change_nothing_and_equal_models_are_equal_bytes(path, tmp_path):
    loaded = HaarModel.load(path)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert loaded.facts == {"seed": 0}
    assert repr(loaded) == "HaarModel(40 features, soft, windows of 12 x 10)"
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(random_model(), name))


def arrays_of(model):
    return {name: np.array(getattr(model, name)) for name in ARRAYS}


def header(**changes):
    return json.dumps({"version": 1, "height": 12, "width": 10, "classes": ["other", "thing"], "facts": {}} | changes)


@pytest.mark.parametrize(
    ("change", "text", "message"),
    [
        ({}, header(version=2), "version is 2"),
        ({}, header(height=5), "does not fit a window"),
        ({}, header(height=4000), "a window has 1 to"),
        ({}, header(classes=["a"]), "two classes"),
        ({}, "{", "not a whole Haar cascade"),
        ({}, "{}", "version"),
        ({}, None, "does not hold a Haar cascade"),
        ({"threshold": np.zeros(3, np.float32)}, header(), "one entry per weak learner"),
        ({"threshold": np.full(40, np.nan, np.float32)}, header(), "finite"),
        ({"trace": np.full(40, np.nan, np.float32)}, header(), "trace"),
        ({"votes": np.zeros((40, 3), np.float32)}, header(), "votes"),
        ({"features": np.zeros((40, 5), np.float32)}, header(), "features"),
        ({"starts": np.zeros(40, bool)}, header(), "begin"),
        ({name: value[:0] for name, value in arrays_of(random_model()).items()}, header(), "no weak learners"),
    ],
    ids=str,
)
def test_a_file_that_is_no_haar_cascade_is_refused(tmp_path, change, text, message):
    path = tmp_path / "bad.safetensors"
    save_file(arrays_of(random_model()) | change, path, metadata=None if text is None else {"haar": text})
    with pytest.raises(WeightsError, match=message):
        HaarModel.load(path)


def test_every_truncated_file_is_refused(path):
    content = path.read_bytes()
    for length in (0, 7, 50, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="not a whole Haar cascade"):
            HaarModel.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        HaarModel.load(tmp_path / "none.safetensors")
    with pytest.raises(ValidationError, match="does not exist"):
        HaarConfig(type="haar", model=tmp_path / "none.safetensors")


@pytest.mark.parametrize("rows", [np.zeros((2, 12, 10)), np.zeros((2, 12), np.uint8), np.zeros((2, 9, 9, 4), np.uint8)])
def test_rows_that_are_no_windows_are_refused(path, rows):
    with pytest.raises(RowsError, match="uint8 windows"):
        backend(path).predict(rows)


def test_grey_is_the_weighted_mean_of_the_channels():
    colours = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), dtype=np.uint8)
    np.testing.assert_allclose(grey(colours), colours @ [0.299, 0.587, 0.114], atol=1)
    same = np.repeat(random_windows(3)[..., None], 3, axis=3)
    np.testing.assert_array_equal(grey(same), random_windows(3))
    np.testing.assert_array_equal(grey_windows(same, 12, 10), random_windows(3))


def test_smaller_windows_are_means_and_larger_ones_interpolated():
    windows = random_windows(3, 24, 20)
    means = windows.reshape(3, 12, 2, 10, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(resized(windows, 12, 10), means, atol=0.5)
    flat = np.full((2, 25, 25), 93, dtype=np.uint8)
    for size in ((24, 24), (7, 40), (31, 26)):
        assert (resized(flat, *size) == 93).all()
    ramp = np.broadcast_to(np.arange(0, 250, 10, dtype=np.uint8), (1, 3, 25))
    wide = resized(ramp, 3, 75)[0, 0].astype(int)
    assert (np.diff(wide) >= 0).all()
    assert wide[1] == 0
    assert wide[-1] == 240


def test_a_backend_is_loaded_by_its_type(path):
    assert isinstance(backend(path), HaarBackend)
