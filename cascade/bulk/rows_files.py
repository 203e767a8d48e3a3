"""Files of rows as sources of parts: CSV, Parquet, Arrow, JSON lines, ``.npz``, ``.npy``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cascade.bulk.part import Part, PartKey, Unit, even_firsts
from cascade.config import RowsConfig
from cascade.errors import DataError
from cascade.files.tables import FORMATS, is_table_file, row_group_starts
from cascade.rows.labels import label_ids
from cascade.rows.rows_file import load_rows
from cascade.rows.table_rows import table_batches

__all__ = ["SUFFIXES", "RowsFile"]

Batch = tuple[np.ndarray, np.ndarray | None]
SUFFIXES = frozenset({*FORMATS, ".npy", ".npz"})


@dataclass(frozen=True)
class RowsFile:
    """A file of rows.

    Attributes:
        path: of the file.
        form: the configuration's ``rows``.
        classes: the configuration's.
    """

    path: Path
    form: RowsConfig
    classes: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    def paths(self) -> list[Path]:
        """The file."""
        return [self.path]

    def count(self) -> int | None:
        """Rows, where the header of the file has their number; ``None`` otherwise, and if it is damaged."""
        try:
            if self.path.suffix.lower() == ".npy":
                return len(self._array())
            return row_group_starts(self.path, DataError)[-1]
        except DataError:
            return None

    def firsts(self, part_rows: int) -> list[int]:
        """Parts at which reading can begin: some of an ``.npy``, those where a row group of Parquet starts."""
        try:
            if self.path.suffix.lower() == ".npy":
                return even_firsts(len(self._array()), part_rows)
            starts = row_group_starts(self.path, DataError)[:-1]
        except DataError:
            return [0]
        return sorted({0} | {start // part_rows for start in starts})

    def read(self, unit: Unit, part_rows: int, done: frozenset[int]) -> Iterator[Part]:
        """Reads the parts of a unit that are not done.

        Raises:
            DataError: the file is damaged; the parts before the damaged place come first.
        """
        if unit.stop is not None and done.issuperset(range(unit.first, unit.stop)):
            return
        number = unit.first
        for rows, label in _in_parts(self._batches(unit.first * part_rows, part_rows), part_rows):
            if number not in done:
                yield Part(PartKey(unit.source, number), self.name, number * part_rows, rows, label, len(rows))
            number += 1
            if number == unit.stop:
                return

    def _batches(self, start: int, part_rows: int) -> Iterator[Batch]:
        if is_table_file(self.path):
            for rows, label in table_batches(self.path, self.form, start):
                try:
                    yield rows, None if label is None else label_ids(label, self.classes)
                except DataError as error:
                    raise DataError(f"{self.path}: {error}") from error
        elif self.path.suffix.lower() == ".npy":
            # Mapped anew for each part: pages that were read count as memory of the process while they are mapped.
            for place in range(start, len(self._array()), part_rows):
                yield np.array(self._array()[place : place + part_rows]), None
        else:
            yield load_rows(self.path, self.classes)

    def _array(self) -> np.ndarray:
        try:
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path} is not a readable .npy file of plain numbers: {error}") from error
        if not isinstance(rows, np.ndarray) or not rows.ndim:
            raise DataError(f"{self.path} must hold an array of (n, ...) numbers")
        return rows


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
