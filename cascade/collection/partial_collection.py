"""The folder of a collection's predictions, until its score table is written."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade.collection.collected_stage import CollectedStage
from cascade.errors import InputError
from cascade.stage import Stage

__all__ = ["PartialCollection"]

MISSING = b"\xff" * 8
"""Stands for a missing text, as a length that no text has."""

FORMAT = 1


class PartialCollection:
    """Saved predictions of all stages of a collection.

    Each part belongs to a set of rows, a stage's name, the digest of its model, and a batch size. Labels, costs and
    scores are not saved, so a resumed run may use others.

    Args:
        folder: created when the first part is saved; its parent must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stages(self, stages: Sequence[Stage], rows: np.ndarray, batch_rows: int) -> list[CollectedStage]:
        """The saved predictions of each stage.

        Args:
            stages: K stages.
            rows: (n, ...) numbers or texts.
            batch_rows: rows per batch.

        Raises:
            InputError: rows are neither numbers nor texts.
        """
        data, found = _digest(rows), []
        for stage in stages:
            parts = [FORMAT, data, stage.name, stage.model, batch_rows]
            parts += [] if stage.reject is None else [stage.reject]
            key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            found.append(CollectedStage(stage.name, self.folder, key))
            found[-1].resume()
        return found

    def __len__(self) -> int:
        """Number of parts, of any rows and stages."""
        return len(list(self.folder.glob("*.npz")))

    def remove(self) -> None:
        """Removes all parts, and the folder if it is empty then."""
        for pattern in ("*.npz", "*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _digest(rows: np.ndarray) -> str:
    """SHA-256 of the rows, in hexadecimal."""
    if rows.dtype.names is not None:
        fields = [f"{name} {_digest(rows[name])}" for name in rows.dtype.names]
        return hashlib.sha256("\n".join(fields).encode()).hexdigest()
    state = hashlib.sha256(f"{rows.dtype.str} {rows.shape}".encode())
    if rows.dtype.kind != "O":
        state.update(np.ascontiguousarray(rows).data)
        return state.hexdigest()
    for text in rows.ravel():
        if text is None:
            state.update(MISSING)
            continue
        if not isinstance(text, str):
            raise InputError(f"rows must be numbers or texts to be kept on disk; got {type(text).__name__}")
        content = text.encode("utf-8", "surrogatepass")
        state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()
