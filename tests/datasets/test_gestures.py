"""The IMU gestures: cut into rows, read without running code, refused if the file is not the known one."""

import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest

from cascade.datasets import gestures
from cascade.errors import DataError


def npy_of(content):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + content


def recordings():
    random = np.random.default_rng(0)
    subjects = np.array([10, 2, 1])
    series = [random.standard_normal((samples, 6)) for samples in (400, 650, 399)]
    return {"X": series, "y": np.array([4, 5, 6]), "subject": subjects, "y_labels": list(gestures.GESTURE_CLASSES)}


def wheel_with(folder, content):
    path = folder / "seglearn.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(gestures.MEMBER, content)
    return path


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    def run(content, sha256=None):
        monkeypatch.setattr(gestures, "SHA256", sha256 or hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(gestures, "pip_download", lambda package, folder: wheel_with(folder, content))
        return gestures.fetch_gestures(tmp_path, lambda *_: None, lambda _: None)

    return run


def test_rows_are_cut_and_split_by_person(fetched, tmp_path):
    data = recordings()
    content = pickle.dumps(np.array(data, dtype=object), protocol=2)
    arrays = fetched(npy_of(content.replace(b"numpy._core", b"numpy.core")))  # as NumPy 1 wrote the known file
    assert arrays["train_rows"].shape == (2, 2, 4, 3, 100)
    assert arrays["test_rows"].shape == (1, 2, 4, 3, 100)
    assert (arrays["train_subjects"].tolist(), arrays["train_labels"].tolist()) == ([2, 2], [5, 5])
    assert (arrays["test_subjects"].tolist(), arrays["test_labels"].tolist()) == ([10], [4])
    second, gyroscope, segment, axis = 1, 1, 2, 1
    expected = data["X"][1][200 + 200 : 200 + 300, 3 + axis].astype(np.float32)
    np.testing.assert_array_equal(arrays["train_rows"][second, gyroscope, segment, axis], expected)
    assert not list(tmp_path.iterdir())


class Hostile:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    "value", [Hostile(), {"X": [Hostile()]}, np.random.default_rng(0)], ids=["call", "inside", "class"]
)
def test_a_file_with_anything_but_arrays_is_refused(fetched, capsys, value):
    with pytest.raises(DataError, match="is not an array"):
        fetched(npy_of(pickle.dumps(value)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"abc", npy_of(b"")], ids=["empty", "no npy", "no pickle"])
def test_a_damaged_file_is_refused(fetched, content):
    with pytest.raises(DataError, match="cannot be read"):
        fetched(content)


def test_another_file_is_not_read(fetched):
    with pytest.raises(DataError, match=r"SHA-256 .* is not read"):
        fetched(npy_of(pickle.dumps(1)), sha256="0" * 64)


def test_a_short_recording_has_no_row():
    assert gestures.cut(np.zeros((399, 6))).shape == (0, 2, 4, 3, 100)
