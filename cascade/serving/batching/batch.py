"""Rows of several calls that go through a segment, or on to the next one, together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.serving.batching.call import Piece

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pieces of calls, and their rows as one array.

    Attributes:
        pieces: at least one, all of the same version of the policy.
        rows: (n, ...), C-contiguous, piece after piece.
        evidence: (n, W), of the segments so far, where the policy has heads.
    """

    pieces: Sequence[Piece]
    rows: np.ndarray
    evidence: np.ndarray | None

    @classmethod
    def join(cls, pieces: Sequence[Piece]) -> "Batch":
        """Pieces of neighbouring places; of one policy, so that all have evidence or none has."""
        rows = [_span(piece.call.rows, piece.places) for piece in pieces]
        evidence = [_span(piece.call.earlier, piece.places) for piece in pieces if piece.call.earlier is not None]
        return cls(pieces, _concatenated(rows), _concatenated(evidence) if evidence else None)

    @classmethod
    def merge(cls, batches: "Sequence[Batch]") -> "Batch":
        """Batches of one version of the policy, at least one, as one."""
        if len(batches) == 1:
            return batches[0]
        evidence = [batch.evidence for batch in batches if batch.evidence is not None]
        return cls(
            [piece for batch in batches for piece in batch.pieces],
            _concatenated([batch.rows for batch in batches]),
            _concatenated(evidence) if evidence else None,
        )

    @property
    def is_done(self) -> bool:
        """Whether no caller waits any more."""
        return all(piece.call.done.done() for piece in self.pieces)

    @property
    def policy(self) -> Policy:
        """Of all rows."""
        return self.pieces[0].call.policy

    @property
    def deadline(self) -> float:
        """When the last of the callers stops waiting."""
        return max(piece.call.deadline for piece in self.pieces)

    @property
    def traceparents(self) -> list[str]:
        """Of the calls that are traced."""
        return [piece.call.traceparent for piece in self.pieces if piece.call.traceparent is not None]

    @property
    def bounds(self) -> np.ndarray:
        """(m + 1,) int: piece i has the rows from ``bounds[i]`` to ``bounds[i + 1]``."""
        return np.cumsum([0, *(len(piece.places) for piece in self.pieces)])

    def give_up(self, error: Exception) -> None:
        """No later stage answers these rows: their calls fall back, or end with the error."""
        for piece in self.pieces:
            piece.call.give_up(piece.places, error)

    def halves(self) -> "tuple[Batch, Batch]":
        """The first half of the pieces, and the others; there must be two at least."""
        middle = len(self.pieces) // 2
        return self._part(0, middle), self._part(middle, len(self.pieces))

    def unsure(self, answers: Answers) -> "Batch | None":
        """What is to go on: the pending rows of n answers, with their evidence; ``None`` if there are none."""
        pending = np.flatnonzero(answers.stage == PENDING)
        if not len(pending):
            return None
        bounds = self.bounds
        cuts = np.searchsorted(pending, bounds)
        pieces = [
            Piece(self.pieces[i].call, np.asarray(self.pieces[i].places)[pending[cuts[i] : cuts[i + 1]] - bounds[i]])
            for i in np.flatnonzero(np.diff(cuts)).tolist()
        ]
        return Batch(pieces, np.ascontiguousarray(self.rows[pending]), answers.evidence)

    def _part(self, first: int, last: int) -> "Batch":
        bounds = self.bounds
        span = slice(bounds[first], bounds[last])
        evidence = None if self.evidence is None else self.evidence[span]
        return Batch(self.pieces[first:last], self.rows[span], evidence)


def _span(rows: np.ndarray, places: "np.ndarray | range") -> np.ndarray:
    """Neighbouring rows; most calls go whole."""
    return rows if len(places) == len(rows) else rows[places[0] : places[-1] + 1]


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
