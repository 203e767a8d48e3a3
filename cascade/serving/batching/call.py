"""One caller's rows, and what is known of them so far."""

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers

__all__ = ["Call", "Piece"]


@dataclass(eq=False)
class Call:
    """Rows of one caller, answered piece by piece.

    Attributes:
        rows: (n, ...), n >= 1.
        policy: that routes them.
        earlier: (n, W), the evidence of earlier segments, where the policy has heads.
        deadline: on the event loop's clock, in seconds.
        fallback: the segment's last stage, whose word is taken for a row that no later stage answers; ``None`` if such
            a row is an error.
        partial: whether the caller takes answers with pending rows; a segment does, a client does not.
        done: the answers, once they are complete.
        since: when it came, on the event loop's clock, in seconds.
        arrived: the same on ``time.monotonic``, which is finer; 0 where nobody asks.
        traceparent: of the span that it belongs to, where it is traced.
        taken: rows that have left the queue; always the first ones.
        seen: rows that the segment has looked at; always the first ones.
    """

    rows: np.ndarray
    policy: Policy
    earlier: np.ndarray | None
    deadline: float
    fallback: int | None
    partial: bool
    done: "asyncio.Future[Answers]"
    since: float = 0.0
    arrived: float = 0.0
    traceparent: str | None = None
    taken: int = 0
    seen: int = 0
    _answers: Answers | None = field(init=False, default=None)
    _degraded: np.ndarray | None = field(init=False, default=None)
    _last: np.ndarray | None = field(init=False, default=None)
    _open: int = field(init=False)

    def __post_init__(self) -> None:
        self._open = len(self.rows)

    def see(self, start: int, said: Answers) -> None:
        """Notes what the segment says about its next rows.

        Args:
            start: place of the first of them.
            said: answers, pending where the segment is unsure.
        """
        stop = start + len(said)
        self.seen = stop
        if len(said) == len(self.rows):  # most calls: all rows in one batch, nothing to gather
            self._answers = said
            self._close(int(np.count_nonzero(said.stage != PENDING)))
        else:
            self.put(np.arange(start, stop), said)

    def word(self, places: np.ndarray) -> np.ndarray:
        """(m,) int, what was last said of m places that the segment has seen."""
        return np.full(len(places), -1) if self._answers is None else self._answers.answer[places]

    def looked_at(self, places: "np.ndarray | range", stage: int | None) -> None:
        """Notes the last stage that has looked at m places, where a segment has several steps."""
        if self._last is None:
            self._last = np.full(len(self.rows), PENDING)
        self._last[places] = PENDING if stage is None else stage

    def put(self, places: np.ndarray, said: Answers) -> None:
        """Notes answers of m places; the last ones wake the caller up."""
        if self.done.done():  # its answers have been handed over
            return
        if self._answers is None:
            self._answers = Answers.empty(len(self.rows))
        self._answers.put(places, said)
        if said.degraded is not None:
            self._mark(places[said.degraded])
        self._close(int(np.count_nonzero(said.stage != PENDING)))

    def give_up(self, places: "np.ndarray | range", error: Exception) -> None:
        """No later stage answers some rows that the segment has seen: falls back, or ends the call with the error."""
        if self.done.done():
            return
        word = None if self.fallback is None else self.policy.last_running(self.fallback)
        if word is None or self._answers is None or (self._answers.answer[places] < 0).any():
            self.done.set_exception(error)
            return
        self._answers.stage[places] = word if self._last is None else self._last[places]
        self._mark(places)
        self._close(len(places))

    def fail(self, error: Exception) -> None:
        """Ends the call now: with what is known, where that is enough for the caller, else with the error."""
        if self.done.done():
            return
        enough = self.seen == len(self.rows) or (self.partial and self.seen)
        if self.fallback is None or self._answers is None or not enough:
            self.done.set_exception(error)
            return
        self._mark(np.zeros(0, dtype=np.int64))
        self.give_up(np.flatnonzero(self._answers.stage[: self.seen] == PENDING), error)
        self._finish()

    def _mark(self, places: "np.ndarray | range") -> None:
        if self._degraded is None:
            self._degraded = np.zeros(len(self.rows), dtype=bool)
        self._degraded[places] = True

    def _close(self, rows: int) -> None:
        self._open -= rows
        if not self._open:
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
