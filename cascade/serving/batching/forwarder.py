"""The rows that a segment is unsure of, on their way to the next one."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.serving.batching.batch import Batch
from cascade.serving.batching.batch_line import BatchLine
from cascade.serving.batching.observer import Observer
from cascade.serving.errors import DeadlineExceeded, Overloaded, Unavailable, is_of_the_rows, request_error
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["Forward", "Forwarder"]

Forward = Callable[[np.ndarray, Policy, np.ndarray | None, float], Awaitable[Answers]]

# With a fallback, answers of later segments must be back a little before the caller's own deadline.
RETURN_SHARE = 0.1
MOST_RETURN_S = 0.05


class Forwarder:
    """Asks the next segment, a few calls at a time; what comes meanwhile goes together with the next call.

    A call costs the same for one row as for many (``docs/decisions/0003-natural-batching.md``). So, like a batch, it
    takes whatever waits when there is room for it, and nobody waits for rows that may not come. A full batch never
    waits.

    Args:
        forward: takes rows, their policy, their evidence, and the seconds until nobody waits for them any more. What
            it leaves pending counts as late.
        most_calls: calls under way at a time, as long as less than a full batch waits.
        max_batch_rows: rows of a full batch.
        max_rows: most rows under way or waiting; more count as an overload of the next segment.
        has_fallback: whether callers take the answer so far for rows that are not answered in time.
        observer: is told what comes back.
    """

    def __init__(
        self,
        forward: Forward,
        most_calls: int,
        max_batch_rows: int,
        max_rows: int,
        has_fallback: bool,
        observer: Observer | None = None,
    ) -> None:
        self._forward = forward
        self._most_calls = most_calls
        self._max_batch_rows = max_batch_rows
        self._max_rows = max_rows
        self._has_fallback = has_fallback
        self._observer = observer
        self._waiting = BatchLine()
        # When each was begun; the first is the oldest.
        self._calls: dict[asyncio.Task[None], float] = {}
        self._called_rows = 0

    def __len__(self) -> int:
        """Rows under way or waiting."""
        return len(self._waiting) + self._called_rows

    @property
    def waiting_since(self) -> float | None:
        """When the oldest call under way was begun, on the event loop's clock; ``None`` if there is none."""
        return next(iter(self._calls.values()), None)

    def send(self, batch: Batch) -> None:
        """Sends rows on, now or soon, and hands the answers to their callers."""
        if len(self) + len(batch.rows) > self._max_rows:
            waiting = f"{len(self)} rows wait for the next segment, {self._max_rows} may"
            batch.give_up(Overloaded(f"{waiting}; try again later"))
            return
        self._waiting.append(batch, asyncio.get_running_loop().time())
        self._start_calls()

    def _start_calls(self) -> None:
        while self._waiting and (len(self._calls) < self._most_calls or len(self._waiting) >= self._max_batch_rows):
            batch = self._waiting.take(self._max_batch_rows)
            if batch is None:
                continue
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._call(batch))
            self._calls[task] = loop.time()
            self._called_rows += len(batch.rows)
            task.add_done_callback(functools.partial(self._end_call, len(batch.rows)))
            _cancel_when_all_are_done(task, batch)

    def _end_call(self, rows: int, task: "asyncio.Task[None]") -> None:
        self._calls.pop(task, None)
        self._called_rows -= rows
        self._start_calls()

    async def _call(self, batch: Batch) -> None:
        # What the task inherits is of whoever happened to be there when it was begun.
        current_traceparent.set(next(iter(batch.traceparents), None))
        try:
            await self._ask(batch)
        except asyncio.CancelledError:
            # All callers are done; or the next segment's replica was cancelled, and they must not wait for it.
            batch.give_up(Unavailable("a later stage has stopped; try again later"))
            raise

    async def _ask(self, batch: Batch) -> None:
        """Hands the next segment's answers back; if a stage fails on the rows or refuses them, asks for the halves."""
        try:
            answers = await self._forward(batch.rows, batch.policy, batch.evidence, self._remaining_s(batch))
        except Exception as error:
            failure = request_error(error)
            if is_of_the_rows(failure) and len(batch.pieces) > 1:
                for half in batch.halves():
                    await self._ask(half)
            else:
                batch.give_up(failure)
            return
        bounds = batch.bounds
        for i, piece in enumerate(batch.pieces):
            said = answers.take(slice(bounds[i], bounds[i + 1]))
            there = said.stage != PENDING
            if not there.all():
                piece.call.give_up(piece.places[~there], DeadlineExceeded("a later stage did not answer in time"))
                said = said.take(there)
            places = piece.places[there]
            if self._observer is not None:
                self._observer.returned(batch.policy, said, piece.call.word(places))
            piece.call.put(places, said)

    def _remaining_s(self, batch: Batch) -> float:
        remaining = batch.deadline - asyncio.get_running_loop().time()
        return remaining - min(RETURN_SHARE * remaining, MOST_RETURN_S) if self._has_fallback else remaining


def _cancel_when_all_are_done(task: "asyncio.Task[None]", batch: Batch) -> None:
    waiting = len(batch.pieces)

    def one_is_done(_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            task.cancel()

    for piece in batch.pieces:
        piece.call.done.add_done_callback(one_is_done)
