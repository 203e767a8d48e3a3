"""Runs the parts of a row through a cascade; later stages get the parts that many batches defer, gathered."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.backends.backend import PredictsWindows
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.routers import Evidence
from cascade.rows.parts import Parts, gathered, in_batches
from cascade.stage import Stage

__all__ = ["PartsRun"]

Reduce = Callable[[np.ndarray, Answers], None]
"""Called with the numbers (m,) of parts, and their answers."""


class _Piece(NamedTuple):
    """Parts that wait for a stage.

    Attributes:
        rows: m parts, or m rows that are gathered already.
        numbers: (m,) int64.
        cost: (m,) float64, of the stages so far.
        evidence: of the stages so far, where the policy needs it.
    """

    rows: Parts | np.ndarray
    numbers: np.ndarray
    cost: np.ndarray
    evidence: Evidence | None


class PartsRun:
    """Runs parts, a batch at a time, through the stages that the policy runs.

    The answers are those of :meth:`Cascade.predict <cascade.cascade.Cascade.predict>` on the gathered parts. A stage
    runs when it has a batch, of the smallest efficient size by its cost curve, at most ``most``; so memory holds at
    most two batches of gathered parts for each stage, whatever the number of parts.

    Args:
        stages: of the cascade.
        policy: for them.
        most: maximum number of parts that a stage gets at a time.
        reduce: called with answers as they come, in any order.
    """

    def __init__(self, stages: Sequence[Stage], policy: Policy, most: int, reduce: Reduce) -> None:
        self._stages = stages
        self._policy = policy
        self._reduce = reduce
        self._running = [k for k in range(len(stages)) if policy.runs[k]]
        curves = policy.curves or (None,) * len(stages)
        self._sizes = [most if curve is None else min(most, curve.best_rows) for curve in curves]
        self._segments = [Segment([stage], k) for k, stage in enumerate(stages)]
        self._waiting: dict[int, list[_Piece]] = {k: [] for k in self._running}

    def run(self, sources: Iterable[Parts]) -> None:
        """Runs all parts of some sources; the parts are numbered from 0 in their order.

        Raises:
            RowsError: a model refuses the rows.
            StageError: a model failed, or broke the stage contract.
        """
        first, start = self._running[0], 0
        for batch in in_batches(sources, self._sizes[first]):
            for piece in batch:
                numbers = np.arange(start, start + len(piece))
                self._waiting[first].append(_Piece(piece, numbers, np.zeros(len(piece)), None))
                start += len(piece)
            self._advance()
        for stage in self._running:
            while self._waiting[stage]:
                self._run_stage(stage)

    def _advance(self) -> None:
        """Runs every stage that has a batch."""
        for stage in self._running:
            while sum(len(piece.numbers) for piece in self._waiting[stage]) >= self._sizes[stage]:
                self._run_stage(stage)

    def _run_stage(self, stage: int) -> None:
        taken = self._take(stage)
        if self._keeps_parts(stage):
            for piece in taken:
                self._run_piece(stage, piece)
        else:
            self._run_piece(stage, _joined(taken))

    def _run_piece(self, stage: int, piece: _Piece) -> None:
        answers = self._segments[stage].run(piece.rows, self._policy, piece.evidence)
        answers.cost[:] += piece.cost
        done = np.flatnonzero(answers.stage != PENDING)
        if len(done):
            self._reduce(piece.numbers[done], answers.take(done).with_abstentions(self._policy))
        pending = np.flatnonzero(answers.stage == PENDING)
        if len(pending):
            following = self._running[self._running.index(stage) + 1]
            rows = piece.rows[pending]
            if not self._keeps_parts(following):
                rows = np.asarray(rows)
            self._waiting[following].append(
                _Piece(rows, piece.numbers[pending], answers.cost[pending], answers.evidence)
            )

    def _keeps_parts(self, stage: int) -> bool:
        """Whether a stage gets windows as they are; the few that a later stage gets share too little to pay for it."""
        return stage == self._running[0] and isinstance(self._stages[stage].backend, PredictsWindows)

    def _take(self, stage: int) -> list[_Piece]:
        """The next batch of a stage."""
        taken, room = [], self._sizes[stage]
        waiting = self._waiting[stage]
        while waiting and room:
            piece = waiting.pop(0)
            if len(piece.numbers) > room:
                waiting.insert(0, _some(piece, slice(room, None)))
                piece = _some(piece, slice(0, room))
            taken.append(piece)
            room -= len(piece.numbers)
        return taken


def _some(piece: _Piece, which: slice) -> _Piece:
    evidence = None if piece.evidence is None else piece.evidence.take(which)
    return _Piece(piece.rows[which], piece.numbers[which], piece.cost[which], evidence)


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    evidence = [piece.evidence for piece in pieces if piece.evidence is not None]
    return _Piece(
        gathered([piece.rows for piece in pieces]),
        np.concatenate([piece.numbers for piece in pieces]),
        np.concatenate([piece.cost for piece in pieces]),
        Evidence.join(evidence) if evidence else None,
    )
