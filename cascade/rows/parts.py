"""Parts of one row, such as the windows of an image: rows of a cascade that are gathered only when a batch is run."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import Self

__all__ = ["Parts", "gathered", "in_batches"]


@runtime_checkable
class Parts(Protocol):
    """The n parts of one row, which have one shape and type. ``np.asarray(parts)`` gathers them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), of the gathered array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the gathered array."""

    def __len__(self) -> int:
        """n."""

    def __getitem__(self, which: Any, /) -> Self:
        """Some of the parts, by a slice, (k,) int indices or (n,) bool; nothing is copied."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """(n, ...), C-contiguous; a new array."""


def in_batches(sources: Iterable[Parts], most: int) -> Iterator[list[Parts]]:
    """Parts of several sources, in their order, in batches of equal size; the last one may be smaller.

    Args:
        sources: read one at a time.
        most: size of a batch, at least 1.

    Yields:
        Pieces of one or more sources, each with at least one part.
    """
    pieces: list[Parts] = []
    room = most
    for source in sources:
        start = 0
        while start < len(source):
            piece = source[start : start + room]
            pieces.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room:
                yield pieces
                pieces, room = [], most
    if pieces:
        yield pieces


def gathered(pieces: Sequence[Parts | np.ndarray]) -> np.ndarray:
    """The parts of one or more pieces as one array, (n, ...), C-contiguous."""
    arrays = [np.asarray(piece) for piece in pieces]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
