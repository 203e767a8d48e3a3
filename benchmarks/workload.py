"""The rows to send: batches of one size, cut once from labelled rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np

__all__ = ["Batch", "Workload"]

SHUFFLE_SEED = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one request.

    Attributes:
        rows: (rows_per_request, ...), C-contiguous.
        label: (rows_per_request,) int, or ``None`` without labels.
    """

    rows: np.ndarray
    label: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Workload:
    """All rows in a fixed random order, cut into batches of exactly one size.

    Attributes:
        batches: at least one; together they hold every row, and the last one is filled up with the first rows.
        rows_per_request: size of each batch.
    """

    batches: tuple[Batch, ...]
    rows_per_request: int

    @classmethod
    def from_rows(cls, rows: np.ndarray, label: np.ndarray | None, rows_per_request: int) -> "Workload":
        """Cuts a workload.

        The rows are shuffled, since a data set sorted by class would make a short run too easy or too hard.

        Args:
            rows: (n, ...), n >= 1.
            label: (n,) int, or ``None``.
            rows_per_request: at least 1; it may be more than n, rows then repeat.
        """
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows))
        batches = -(-len(rows) // rows_per_request)
        places = np.resize(order, (batches, rows_per_request))
        return cls(
            tuple(
                Batch(np.ascontiguousarray(rows[place]), None if label is None else label[place]) for place in places
            ),
            rows_per_request,
        )

    def endless(self) -> Iterator[Batch]:
        """The batches in order, repeatedly."""
        return cycle(self.batches)
