"""Rows to score: one file, or a folder of files, as parts of equal size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cascade.config import RowsConfig
from cascade.errors import DataError
from cascade.files.tables import FORMATS, is_table_file
from cascade.rows.labels import label_ids
from cascade.rows.rows_file import load_rows
from cascade.rows.table_rows import table_batches

__all__ = ["Part", "input_files", "parts"]

Batch = tuple[np.ndarray, np.ndarray | None]
SUFFIXES = {*FORMATS, ".npy", ".npz"}


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one file.

    Attributes:
        number: of the part, from 0.
        file: the rows are in it.
        start: index of the first row in the file.
        rows: (n, ...), as they are in the file.
        label: (n,) ids of classes; ``None`` if the file has none.
    """

    number: int
    file: Path
    start: int
    rows: np.ndarray
    label: np.ndarray | None


def input_files(path: Path) -> list[Path]:
    """The file, or the files of a folder in the order of their names.

    Raises:
        DataError: there is none, or a file has another format.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    files = sorted(each for each in path.iterdir() if not each.name.startswith((".", "_"))) if path.is_dir() else [path]
    other = [each for each in files if each.suffix.lower() not in SUFFIXES or not each.is_file()]
    if other or not files:
        what = f"{other[0]} is none" if other else f"{path} is empty"
        raise DataError(f"the input must be files of the types {', '.join(sorted(SUFFIXES))}; {what}")
    return files


def parts(files: Sequence[Path], form: RowsConfig, classes: Sequence[str] | None, part_rows: int) -> Iterator[Part]:
    """Reads the files in order, a part at a time.

    Args:
        files: of :func:`input_files`.
        form: the configuration's ``rows``.
        classes: the configuration's.
        part_rows: rows of a part, at least 1; the last part of a file may have fewer.

    Raises:
        DataError: a file is damaged; the parts before the damaged place come first.
    """
    number = 0
    for file in files:
        start = 0
        for rows, label in _in_parts(_batches(file, form, classes), part_rows):
            yield Part(number, file, start, rows, label)
            number, start = number + 1, start + len(rows)


def _batches(file: Path, form: RowsConfig, classes: Sequence[str] | None) -> Iterator[Batch]:
    if is_table_file(file):
        for rows, label in table_batches(file, form):
            try:
                yield rows, None if label is None else label_ids(label, classes)
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
    elif file.suffix.lower() == ".npy":
        try:
            rows = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{file} is not a readable .npy file of plain numbers: {error}") from error
        yield rows, None
    else:
        yield load_rows(file, classes)


def _in_parts(batches: Iterator[Batch], part_rows: int) -> Iterator[Batch]:
    """Batches of any size, joined and cut to one size."""
    rows: list[np.ndarray] = []
    labels: list[np.ndarray | None] = []
    waiting = 0
    for batch, label in batches:
        start = 0
        while start < len(batch):
            stop = min(len(batch), start + part_rows - waiting)
            rows.append(batch[start:stop])
            labels.append(None if label is None else label[start:stop])
            waiting, start = waiting + stop - start, stop
            if waiting == part_rows:
                yield _joined(rows, labels)
                rows, labels, waiting = [], [], 0
    if waiting:
        yield _joined(rows, labels)


def _joined(rows: list[np.ndarray], labels: list[np.ndarray | None]) -> Batch:
    known = [label for label in labels if label is not None]
    whole = rows[0] if len(rows) == 1 else np.concatenate(rows)
    return whole, np.concatenate(known) if known else None
