"""Windows of a pyramid level, evaluated together, are as gathered windows."""

import numpy as np
import pytest
from haar_models import random_model, random_windows

from cascade.backends.backend import PredictsWindows
from cascade.backends.config import HaarConfig
from cascade.backends.detection.haar import level_cascade
from cascade.backends.detection.haar.backend import HaarBackend
from cascade.backends.detection.pyramid import Pyramid


@pytest.fixture
def backend(tmp_path):
    random_model(seed=3).save(tmp_path / "haar.safetensors")
    return HaarBackend(HaarConfig(type="haar", model=tmp_path / "haar.safetensors"))


def same(ours, theirs):
    for name in ("answer", "probabilities", "mflop"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("size", [(12, 10), (13, 11), (40, 57), (61, 30)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("is_colour", [False, True])
def test_a_level_is_as_its_gathered_windows(backend, monkeypatch, size, stride, is_colour):
    monkeypatch.setattr(level_cascade, "BAND_WINDOWS", 30)
    image = random_windows(3, *size, seed=5).transpose(1, 2, 0) if is_colour else random_windows(1, *size, seed=5)[0]
    for windows in Pyramid(*size, (12, 10), stride=stride).windows(np.ascontiguousarray(image)):
        same(backend.predict_windows(windows), backend.predict(np.asarray(windows)))
        some = np.random.default_rng(0).permutation(len(windows))[:7]
        same(backend.predict_windows(windows[some]), backend.predict(np.asarray(windows[some])))
        run = windows[len(windows) // 3 :]
        same(backend.predict_windows(run), backend.predict(np.asarray(run)))


def test_a_level_is_evaluated_once_and_the_next_image_anew(backend, monkeypatch):
    calls = []
    evaluated = level_cascade.LevelCascade._evaluated
    monkeypatch.setattr(
        level_cascade.LevelCascade, "_evaluated", lambda *arguments: calls.append(1) or evaluated(*arguments)
    )
    pyramid = Pyramid(30, 30, (12, 10))
    for image in random_windows(2, 30, 30):
        windows = next(pyramid.windows(image))
        same(backend.predict_windows(windows[:20]), backend.predict(np.asarray(windows[:20])))
        same(backend.predict_windows(windows[20:]), backend.predict(np.asarray(windows[20:])))
    assert len(calls) == 2


def test_windows_of_another_size_are_gathered(backend):
    image = random_windows(1, 60, 60)[0]
    windows = next(Pyramid(60, 60, (24, 20)).windows(image))
    same(backend.predict_windows(windows), backend.predict(np.asarray(windows)))


def test_the_backend_offers_the_protocol(backend):
    assert isinstance(backend, PredictsWindows)
