"""A part: consecutive rows of the input, which are read, scored and written together."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cascade.errors import DataError

__all__ = ["Damage", "Part", "PartKey", "PartSource", "Unit", "even_firsts", "read_unit"]

MOST_UNITS = 256
"""Of a source in which reading can begin anywhere: each is a call."""


class PartKey(NamedTuple):
    """Which part: the index of its source, and its number there, both from 0."""

    source: int
    number: int

    @property
    def file_name(self) -> str:
        """Of the part's answers."""
        return f"part-{self.source:05d}-{self.number:06d}.parquet"


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive rows of one source.

    Attributes:
        key: which part.
        file: name of the file of the rows, or of each of the n rows.
        start: index of the first row in the source.
        rows: (m, ...), as they are in the file; (0,) where they are elsewhere.
        label: (m,) ids of classes; ``None`` if the source has none.
        count: m.
        broken: place from 0 to n - 1 and problem of each of the n - m rows that cannot be read.
    """

    key: PartKey
    file: str | tuple[str, ...]
    start: int
    rows: np.ndarray
    label: np.ndarray | None
    count: int
    broken: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.count + len(self.broken)

    def without_rows(self) -> "Part":
        """The part, for another process than the one that scores its rows."""
        return replace(self, rows=np.zeros(0))

    @property
    def place(self) -> str:
        """Where the part is, for messages."""
        return f"{self.file if isinstance(self.file, str) else self.file[0]}, part that starts at row {self.start}"


@dataclass(frozen=True)
class Damage:
    """A place of the input that cannot be read.

    Attributes:
        problem: what is wrong, and where.
    """

    problem: str


class PartSource(Protocol):
    """A file of rows, or a folder of images."""

    @property
    def name(self) -> str:
        """Of the file or folder."""

    def paths(self) -> list[Path]:
        """Of all its files."""

    def count(self) -> int | None:
        """Rows, where they are known without reading them all."""

    def firsts(self, part_rows: int) -> list[int]:
        """Numbers of the parts at which reading can begin without the rows before; the first is 0."""

    def read(self, unit: "Unit", part_rows: int, done: frozenset[int]) -> Iterator[Part | Damage]:
        """Reads the parts of a unit that are not done.

        Raises:
            DataError: the source is damaged; the parts before the damaged place come first.
        """


class Unit(NamedTuple):
    """Parts of one source that are read one after the other: from ``first`` to before ``stop``, or to the end."""

    source: int
    first: int = 0
    stop: int | None = None


def even_firsts(rows: int, part_rows: int) -> list[int]:
    """Numbers of parts with equal distances, for a source in which reading can begin anywhere."""
    parts = -(-rows // part_rows)
    return list(range(0, max(parts, 1), max(1, parts // MOST_UNITS)))


def read_unit(source: PartSource, unit: Unit, part_rows: int, done: Iterable[PartKey] = ()) -> Iterator[Part | Damage]:
    """Reads the parts of a unit that are not done; damage is the last item where it ends the reading."""
    numbers = frozenset(key.number for key in done if key.source == unit.source)
    try:
        yield from source.read(unit, part_rows, numbers)
    except DataError as error:
        yield Damage(str(error))
