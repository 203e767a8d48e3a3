"""The predictions of one stage so far, saved in parts."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import DataError, InputError
from cascade.files.npz import load_arrays
from cascade.prediction import Prediction

__all__ = ["CollectedStage"]

SAVE_SECONDS = 30.0
NAMES = tuple(field.name for field in fields(Prediction))


class CollectedStage:
    """Predictions of one stage on the first rows of a set.

    Args:
        name: of the stage.
        folder: of the parts, files with a few batches each; ``None`` saves nothing.
        key: hexadecimal digest of everything that the predictions depend on.

    Attributes:
        rows: number of rows with a prediction.
        parts_read: number of files that predictions were read from.
    """

    def __init__(self, name: str, folder: Path | None = None, key: str = "") -> None:
        self.name = name
        self.rows = 0
        self.parts_read = 0
        self._folder = folder
        self._key = key
        self._parts: list[Prediction] = []
        self._unsaved: list[Prediction] = []
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Reads the saved parts, from the first row to the first part that is missing or damaged."""
        while (part := self._read()) is not None:
            self._parts.append(part)
            self.rows += len(part)
            self.parts_read += 1

    def add(self, prediction: Prediction) -> None:
        """Appends the prediction of the next rows; saves at intervals.

        Raises:
            InputError: it holds anything but numbers, or has other arrays than the predictions before it.
        """
        part = _map(np.array, prediction)  # a copy: a model may reuse its arrays
        for name, array in _arrays(part).items():
            if array.dtype.kind not in "biuf":
                raise InputError(f"stage {self.name!r} must predict numbers; it returned {name} of {array.dtype}")
        first = self._parts[0] if self._parts else part
        if _form(part) != _form(first):
            raise InputError(
                f"stage {self.name!r} must predict the same arrays for all rows; it returned {_form(part)} from row "
                f"{self.rows} on, and {_form(first)} before"
            )
        self._parts.append(part)
        self._unsaved.append(part)
        self.rows += len(part)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the unsaved predictions as one part, atomically."""
        self._saved_at = time.monotonic()
        if self._folder is None or not self._unsaved:
            return
        part = _joined(self._unsaved)
        path = self._path(self.rows - len(part))
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        self._folder.mkdir(exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **_arrays(part), key=np.array(self._key))
        unfinished.replace(path)
        self._unsaved = []

    def clear(self) -> None:
        """Discards all predictions, including the saved ones."""
        for path in self._folder.glob(f"{self._key[:16]}-*.npz") if self._folder else ():
            path.unlink()
        self._parts, self._unsaved, self.rows = [], [], 0

    def prediction(self, start: int = 0, stop: int | None = None) -> Prediction:
        """The predictions of rows ``start`` to ``stop``; by default of all rows."""
        if len(self._parts) > 1:
            self._parts = [_joined(self._parts)]
        return _map(lambda array: array[start:stop], self._parts[0])

    def _read(self) -> Prediction | None:
        """The part that starts with the next row, if it exists, is undamaged and has this key."""
        if self._folder is None:
            return None
        try:
            arrays = load_arrays(self._path(self.rows), (*NAMES, "key"), DataError)
        except (OSError, DataError):
            return None
        if str(arrays.pop("key", "")) != self._key or "answer" not in arrays:
            return None
        return Prediction(**arrays)

    def _path(self, start: int) -> Path:
        return (self._folder or Path()) / f"{self._key[:16]}-{start:012d}.npz"


def _arrays(prediction: Prediction) -> dict[str, Any]:
    """The arrays that the model returned, by name."""
    return {name: value for name in NAMES if (value := getattr(prediction, name)) is not None}


def _map(change: Callable[[np.ndarray], np.ndarray], prediction: Prediction) -> Prediction:
    return Prediction(**{name: change(array) for name, array in _arrays(prediction).items()})


def _joined(parts: Sequence[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    return Prediction(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _arrays(parts[0])})


def _form(prediction: Prediction) -> str:
    """The arrays with their shapes per row, such as "answer (), probabilities (10,)"."""
    return ", ".join(f"{name} {array.shape[1:]}" for name, array in _arrays(prediction).items())
