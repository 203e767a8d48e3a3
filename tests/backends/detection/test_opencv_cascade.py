"""OpenCV's cascades as a backend: what OpenCV itself detects, window by window."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cascade.backends.config import OpencvConfig
from cascade.backends.digest import model_digest
from cascade.backends.loading import load_backend
from cascade.errors import RowsError, WeightsError

cv2 = pytest.importorskip("cv2")

NAME = "haarcascade_frontalface_alt2"


@pytest.fixture(scope="module")
def faces():
    """100 faces and 100 other crops, 25 x 25 pixels."""
    package = importlib.util.find_spec("skimage")
    if package is None:
        pytest.skip("scikit-image is not installed")
    crops = np.load(Path(package.origin).parent / "data" / "lfw_subset.npy")
    return np.round(crops * 255).astype(np.uint8)


def config_of(model, folder=None):
    return OpencvConfig.model_validate({"type": "opencv", "model": str(model)}, context={"folder": folder or Path()})


def test_it_accepts_the_windows_that_opencv_detects(faces):
    found = load_backend(config_of(NAME)).predict(faces)
    classifier = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{NAME}.xml")
    size = classifier.getOriginalWindowSize()
    scaled = [cv2.resize(window, size, interpolation=cv2.INTER_AREA) for window in faces]
    wanted = [len(classifier.detectMultiScale(window, minNeighbors=0, minSize=size, maxSize=size)) for window in scaled]
    assert (found.answer == np.minimum(wanted, 1)).all()
    assert found.answer[:100].mean() > 0.4
    assert found.answer[100:].mean() < 0.05
    accepted = found.answer == 1
    assert (found.probabilities[~accepted, 1] == 0).all()
    assert (found.probabilities[accepted, 1] >= 0.5).all()
    assert len(set(found.probabilities[accepted, 1].tolist())) > 10


def test_colour_is_converted_and_batches_do_not_matter(faces):
    backend = load_backend(config_of(NAME))
    whole = backend.predict(faces[:40]).probabilities
    np.testing.assert_array_equal(
        np.concatenate([backend.predict(each[None]).probabilities for each in faces[:40]]), whole
    )
    np.testing.assert_array_equal(backend.predict(np.repeat(faces[:40, :, :, None], 3, axis=3)).probabilities, whole)
    tiny = backend.predict(faces[:3, ::3, ::3])  # smaller than the trained window: enlarged
    assert tiny.probabilities.shape == (3, 2)


def test_a_cascade_of_lbp_features_from_a_file(faces, tmp_path):
    package = importlib.util.find_spec("skimage")
    source = Path(package.origin).parent / "data" / "lbpcascade_frontalface_opencv.xml"
    # A tag of scikit-image's copy is misspelt, which OpenCV does not accept.
    (tmp_path / "lbp.xml").write_bytes(source.read_bytes().replace(b"featuhreParams", b"featureParams"))
    found = load_backend(config_of("lbp.xml", tmp_path)).predict(faces)
    assert found.answer[:100].mean() > 0.2
    assert found.answer[100:].mean() < 0.1


def test_the_digest_covers_the_content_of_the_file(tmp_path):
    packaged = Path(cv2.data.haarcascades) / f"{NAME}.xml"
    (tmp_path / "mine.xml").write_bytes(packaged.read_bytes())
    assert model_digest(config_of("mine.xml", tmp_path)) == model_digest(config_of(NAME))
    (tmp_path / "mine.xml").write_bytes(packaged.read_bytes() + b"\n")
    assert model_digest(config_of("mine.xml", tmp_path)) != model_digest(config_of(NAME))
    assert model_digest(config_of("haarcascade_eye")) != model_digest(config_of(NAME))


def test_a_missing_or_damaged_file_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="does not exist"):
        config_of("none.xml", tmp_path)
    with pytest.raises(WeightsError, match="no cascade 'haarcascade_ears'"):
        load_backend(config_of("haarcascade_ears"))
    for content in (b"", b"no xml", b"<?xml version='1.0'?><opencv_storage><a>1</a></opencv_storage>"):
        (tmp_path / "bad.xml").write_bytes(content)
        with pytest.raises(WeightsError, match="is no cascade of OpenCV"):
            load_backend(config_of("bad.xml", tmp_path))


def test_other_rows_are_refused():
    backend = load_backend(config_of(NAME))
    for rows in (np.zeros((2, 24, 24)), np.zeros((2, 24), np.uint8), np.zeros((2, 24, 24, 4), np.uint8)):
        with pytest.raises(RowsError, match="uint8 windows"):
            backend.predict(rows)
