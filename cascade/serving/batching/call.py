"""One caller's rows, and their answers so far."""

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.routers import Evidence

__all__ = ["Call", "Piece"]


@dataclass(eq=False)
class Call:
    """Rows of one caller, answered piece by piece.

    Attributes:
        rows: (n, ...), n >= 1.
        policy: that routes them.
        evidence: of the rows, from earlier segments, where the policy needs it.
        last_stage: index of the last stage that may run on them; ``None`` for all stages.
        deadline: in seconds, on the event loop's clock.
        fallback: index of the segment's last stage, whose answer a row gets if no later stage answers it; ``None`` if
            such a row is an error.
        partial: whether the caller accepts answers with pending rows; a segment does, a client does not.
        done: the answers, once they are complete.
        queued_at: when it came, in seconds, on the event loop's clock.
        arrived_at: the same on ``time.monotonic``, which is finer; 0 where batches are not counted.
        traceparent: of the span that it belongs to, where it is traced.
        taken: rows that have left the queue; always the first ones.
        processed: rows that have been through the segment, or its first step; always the first ones.
        kind: version of the policy, and the last stage that may run: calls that share both may share a batch.
    """

    rows: np.ndarray
    policy: Policy
    evidence: Evidence | None
    last_stage: int | None
    deadline: float
    fallback: int | None
    partial: bool
    done: "asyncio.Future[Answers]"
    queued_at: float = 0.0
    arrived_at: float = 0.0
    traceparent: str | None = None
    taken: int = 0
    processed: int = 0
    kind: tuple[str, int | None] = field(init=False)
    _answers: Answers | None = field(init=False, default=None)
    _degraded: np.ndarray | None = field(init=False, default=None)
    _fallback_stage: np.ndarray | None = field(init=False, default=None)
    _unanswered: int = field(init=False)

    def __post_init__(self) -> None:
        self.kind = (self.policy.version, self.last_stage)
        self._unanswered = len(self.rows)

    def put_processed(self, start: int, answers: Answers) -> None:
        """Adds the segment's answers of its next rows.

        Args:
            start: place of the first of them.
            answers: pending where the segment is unsure.
        """
        stop = start + len(answers)
        self.processed = stop
        if len(answers) == len(self.rows):  # most calls: all rows in one batch
            self._answers, self._degraded = answers, answers.degraded
            self._count_answered(int(np.count_nonzero(answers.stage != PENDING)))
        else:
            self.put(np.arange(start, stop), answers)

    def put(self, places: np.ndarray, answers: Answers) -> None:
        """Adds the answers of m places; the last ones complete the call."""
        if self.done.done():  # its answers have been returned
            return
        if self._answers is None:
            self._answers = Answers.empty(len(self.rows))
        self._answers.put(places, answers)
        if answers.degraded is not None:
            self._mark_degraded(places[answers.degraded])
        self._count_answered(int(np.count_nonzero(answers.stage != PENDING)))

    def latest_answer(self, places: np.ndarray) -> np.ndarray:
        """(m,) int, the latest answer to m processed places."""
        return np.full(len(places), -1) if self._answers is None else self._answers.answer[places]

    def set_fallback_stage(self, places: "np.ndarray | range", stage: int | None) -> None:
        """Sets the last stage that has run on m places, where a segment has several steps."""
        if self._fallback_stage is None:
            self._fallback_stage = np.full(len(self.rows), PENDING)
        self._fallback_stage[places] = PENDING if stage is None else stage

    def fall_back(self, places: "np.ndarray | range", error: Exception) -> None:
        """No later stage answers some processed rows: takes the answers so far, or ends the call with the error."""
        if self.done.done():
            return
        stage = None if self.fallback is None else self.policy.last_running(self.fallback)
        if stage is None or self._answers is None or (self._answers.answer[places] < 0).any():
            self.done.set_exception(error)
            return
        self._answers.stage[places] = stage if self._fallback_stage is None else self._fallback_stage[places]
        self._mark_degraded(places)
        self._count_answered(len(places))

    def fail(self, error: Exception) -> None:
        """Ends the call now: with the answers so far, where the caller accepts them, else with the error."""
        if self.done.done():
            return
        is_enough = self.processed == len(self.rows) or (self.partial and self.processed)
        if self.fallback is None or self._answers is None or not is_enough:
            self.done.set_exception(error)
            return
        self._mark_degraded(np.zeros(0, dtype=np.int64))
        self.fall_back(np.flatnonzero(self._answers.stage[: self.processed] == PENDING), error)
        self._finish()

    def _mark_degraded(self, places: "np.ndarray | range") -> None:
        if self._degraded is None:
            self._degraded = np.zeros(len(self.rows), dtype=bool)
        self._degraded[places] = True

    def _count_answered(self, rows: int) -> None:
        self._unanswered -= rows
        if not self._unanswered:
            self._finish()

    def _finish(self) -> None:
        if not self.done.done() and self._answers is not None:
            degraded = self._degraded
            self.done.set_result(self._answers if degraded is None else replace(self._answers, degraded=degraded))


@dataclass(frozen=True)
class Piece:
    """A part of a call that is in a batch.

    Attributes:
        call: whose rows they are.
        places: (m,) int, ascending, in the call; a range where they are neighbours.
    """

    call: Call
    places: "np.ndarray | range"

    @property
    def neighbouring_rows(self) -> np.ndarray:
        """(m, ...), its rows, where they are neighbours; most pieces are whole calls."""
        rows = self.call.rows
        return rows if len(self.places) == len(rows) else rows[self._span]

    @property
    def neighbouring_evidence(self) -> Evidence | None:
        """The evidence of the same rows."""
        evidence = self.call.evidence
        return evidence if evidence is None or len(self.places) == len(self.call.rows) else evidence.take(self._span)

    @property
    def _span(self) -> slice:
        return slice(int(self.places[0]), int(self.places[-1]) + 1)
