"""The rows to send: batches cut once from labelled rows, and the order in which they are sent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cascade.errors import InputError

__all__ = ["Batch", "DifficultyMix", "Picker", "Workload"]

SHUFFLE_SEED = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one request.

    Attributes:
        rows: (n, ...), C-contiguous.
        label: (n,) int, or ``None`` without labels.
    """

    rows: np.ndarray
    label: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class DifficultyMix:
    """Hard rows, which the first stage defers, among easy ones; all rows of a request are hard, or all are easy.

    Attributes:
        hard_share: share of hard requests, in [0, 1].
        burst_s: they arrive in bursts of so many seconds, in which all requests are hard; 0 for an even mix.
    """

    hard_share: float
    burst_s: float = 0.0

    def is_hard(self, moment_s: float, random: np.random.Generator) -> bool:
        """Whether the request of a moment is hard."""
        if self.burst_s and self.hard_share:
            return moment_s % (self.burst_s / self.hard_share) < self.burst_s
        return random.random() < self.hard_share


@dataclass(frozen=True, eq=False)
class Workload:
    """All rows in a fixed random order, cut into batches.

    Attributes:
        batches: at least one; those of a size together hold every row, and the last one is filled up with the first
            rows.
        hard: (number of batches,) bool, the batches of hard rows; ``None`` where rows are not told apart.
    """

    batches: tuple[Batch, ...]
    hard: np.ndarray | None = field(default=None)

    @classmethod
    def from_rows(
        cls,
        rows: np.ndarray,
        label: np.ndarray | None,
        rows_per_request: int | Iterable[int],
        hard: np.ndarray | None = None,
    ) -> "Workload":
        """Cuts a workload.

        The rows are shuffled, since a data set sorted by class would make a short run too easy or too hard.

        Args:
            rows: (n, ...), n >= 1.
            label: (n,) int, or ``None``.
            rows_per_request: at least 1; it may be more than n, rows then repeat. Several sizes for a trace.
            hard: (n,) bool; then a batch has rows of one kind only.

        Raises:
            InputError: all rows are hard, or all are easy.
        """
        sizes = [rows_per_request] if isinstance(rows_per_request, int) else sorted(set(rows_per_request))
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(rows))
        if hard is None:
            return cls(tuple(_cut(rows, label, order, sizes)))
        if hard.all() or not hard.any():
            raise InputError(f"a difficulty mix needs hard and easy rows; all are {'hard' if hard.all() else 'easy'}")
        easy_batches = list(_cut(rows, label, order[~hard[order]], sizes))
        hard_batches = list(_cut(rows, label, order[hard[order]], sizes))
        kinds = np.repeat([False, True], [len(easy_batches), len(hard_batches)])
        return cls((*easy_batches, *hard_batches), kinds)

    @property
    def rows_per_request(self) -> int:
        """Rows of the first batch."""
        return len(self.batches[0])


def _cut(rows: np.ndarray, label: np.ndarray | None, order: np.ndarray, sizes: Iterable[int]) -> Iterator[Batch]:
    for size in sizes:
        for place in np.resize(order, (-(-len(order) // size), size)):
            yield Batch(np.ascontiguousarray(rows[place]), None if label is None else label[place])


class Picker:
    """Chooses the next request: all batches in random order, again and again.

    Args:
        workload: to choose from.
        mix: of hard and easy batches; ``None`` to send all alike.
        seed: of the order.
    """

    def __init__(self, workload: Workload, mix: DifficultyMix | None, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._mix = mix
        sizes = np.array([len(batch) for batch in workload.batches])
        hard = np.zeros(len(sizes), dtype=bool) if mix is None or workload.hard is None else workload.hard
        self._first_size = int(sizes[0])
        self._pools = {
            (int(size), kind): self._endless(np.flatnonzero((sizes == size) & (hard == kind)))
            for size in np.unique(sizes)
            for kind in (False, True)
        }

    def next(self, moment_s: float, size: int | None = None) -> int:
        """Index of the batch to send.

        Args:
            moment_s: seconds since the beginning of the load.
            size: rows of the batch; ``None`` for the workload's.
        """
        hard = self._mix is not None and self._mix.is_hard(moment_s, self._random)
        return next(self._pools[self._first_size if size is None else size, hard])

    def _endless(self, places: np.ndarray) -> Iterator[int]:
        while len(places):
            yield from self._random.permutation(places).tolist()
