"""Rows of several calls that go through a segment, or on to the next one, together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.routers import Evidence
from cascade.serving.batching.call import Call, Piece

__all__ = ["Batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pieces of calls, and their rows as one array.

    Attributes:
        pieces: at least one, all of the same :attr:`Call.kind`.
        rows: (n, ...), C-contiguous, piece after piece.
        evidence: of the rows, from the segments so far, where the policy needs it.
    """

    pieces: Sequence[Piece]
    rows: np.ndarray
    evidence: Evidence | None

    @classmethod
    def join(cls, pieces: Sequence[Piece]) -> "Batch":
        """A batch of pieces that each have neighbouring rows."""
        evidence = [found for piece in pieces if (found := piece.neighbouring_evidence) is not None]
        rows = _concatenated([piece.neighbouring_rows for piece in pieces])
        return cls(pieces, rows, Evidence.join(evidence) if evidence else None)

    @classmethod
    def merge(cls, batches: "Sequence[Batch]") -> "Batch":
        """Batches of the same kind, at least one, as one."""
        if len(batches) == 1:
            return batches[0]
        evidence = [batch.evidence for batch in batches if batch.evidence is not None]
        return cls(
            [piece for batch in batches for piece in batch.pieces],
            _concatenated([batch.rows for batch in batches]),
            Evidence.join(evidence) if evidence else None,
        )

    @property
    def is_done(self) -> bool:
        """Whether all callers have their answers, or have stopped waiting."""
        return all(piece.call.done.done() for piece in self.pieces)

    @property
    def kind(self) -> tuple[str, int | None]:
        """Of all pieces, see :attr:`Call.kind`."""
        return self._call.kind

    @property
    def policy(self) -> Policy:
        """Of all rows."""
        return self._call.policy

    @property
    def last_stage(self) -> int | None:
        """Index of the last stage that may run on the rows; ``None`` for all stages."""
        return self._call.last_stage

    @property
    def arrived_at(self) -> float:
        """When the oldest call came, on ``time.monotonic``."""
        return self._call.arrived_at

    @property
    def deadline(self) -> float:
        """The latest deadline of the callers, on the event loop's clock."""
        return max(piece.call.deadline for piece in self.pieces)

    @property
    def traceparents(self) -> list[str]:
        """Of the calls that are traced."""
        return [piece.call.traceparent for piece in self.pieces if piece.call.traceparent is not None]

    @property
    def bounds(self) -> np.ndarray:
        """(m + 1,) int: piece i has the rows from ``bounds[i]`` to ``bounds[i + 1]``."""
        return np.cumsum([0, *(len(piece.places) for piece in self.pieces)])

    def fall_back(self, error: Exception) -> None:
        """No later stage answers these rows: their calls take the answers so far, or end with the error."""
        for piece in self.pieces:
            piece.call.fall_back(piece.places, error)

    def halves(self) -> "tuple[Batch, Batch]":
        """The first half of the pieces, and the others; there must be at least two."""
        middle = len(self.pieces) // 2
        return self._part(0, middle), self._part(middle, len(self.pieces))

    def deferred(self, answers: Answers) -> "Batch | None":
        """The rows that go on to the next stage: those pending in n answers; ``None`` if none are."""
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

    @property
    def _call(self) -> Call:
        return self.pieces[0].call

    def _part(self, first: int, last: int) -> "Batch":
        bounds = self.bounds
        span = slice(int(bounds[first]), int(bounds[last]))
        evidence = None if self.evidence is None else self.evidence.take(span)
        return Batch(self.pieces[first:last], self.rows[span], evidence)


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
