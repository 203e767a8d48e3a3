"""The rows that a segment defers, on their way to the next one."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.routers import Evidence
from cascade.serving.batching.batch import Batch
from cascade.serving.batching.batch_queue import BatchQueue
from cascade.serving.batching.observer import Observer
from cascade.serving.errors import DeadlineExceeded, Overloaded, Unavailable, is_of_the_rows, request_error
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["Forward", "Forwarder"]

Forward = Callable[[np.ndarray, Policy, Evidence | None, float, int | None], Awaitable[Answers]]
"""Takes rows, their policy, their evidence, seconds until no caller waits any more, and the last stage that may run."""

# With a fallback, answers of later segments must be back a little before the caller's own deadline.
RETURN_SHARE = 0.1
MAX_RETURN_S = 0.05


class Forwarder:
    """Calls the next segment, a few calls at a time; rows that come meanwhile go together with the next call.

    A call costs the same for one row as for many (``docs/decisions/0003-natural-batching.md``). So, like a batch, it
    takes all rows that wait when there is room for it, and no row waits for others that may not come. A full batch does
    not wait.

    Args:
        forward: calls the next segment. What it leaves pending counts as late.
        max_calls: calls under way at a time, as long as less than a full batch waits.
        max_batch_rows: rows of a full batch.
        max_rows: most rows under way or waiting; more count as an overload of the next segment.
        has_fallback: whether callers take the answer so far for rows that are not answered in time.
        observer: called with what returns.
    """

    def __init__(
        self,
        forward: Forward,
        max_calls: int,
        max_batch_rows: int,
        max_rows: int,
        has_fallback: bool,
        observer: Observer | None = None,
    ) -> None:
        self._forward = forward
        self._max_calls = max_calls
        self._max_batch_rows = max_batch_rows
        self._max_rows = max_rows
        self._has_fallback = has_fallback
        self._observer = observer
        self._waiting = BatchQueue()
        # When each call began; the first is the oldest.
        self._calls: dict[asyncio.Task[None], float] = {}
        self._called_rows = 0

    def __len__(self) -> int:
        """Rows under way or waiting."""
        return len(self._waiting) + self._called_rows

    @property
    def oldest_at(self) -> float | None:
        """When the oldest call under way began, on the event loop's clock; ``None`` if there is none."""
        return next(iter(self._calls.values()), None)

    def send(self, batch: Batch) -> None:
        """Sends rows on, now or soon, and returns the answers to their callers."""
        if len(self) + len(batch.rows) > self._max_rows:
            waiting = f"{len(self)} rows wait for the next segment, {self._max_rows} may"
            batch.fall_back(Overloaded(f"{waiting}; try again later"))
            return
        self._waiting.append(batch, asyncio.get_running_loop().time())
        self._start_calls()

    def _start_calls(self) -> None:
        while self._waiting and (len(self._calls) < self._max_calls or len(self._waiting) >= self._max_batch_rows):
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
        # The task inherits the context of whichever request started it.
        current_traceparent.set(next(iter(batch.traceparents), None))
        try:
            await self._answer(batch)
        except asyncio.CancelledError:
            # All callers are done; or the next segment's replica was cancelled, and they must not wait for it.
            batch.fall_back(Unavailable("a later stage has stopped; try again later"))
            raise

    async def _answer(self, batch: Batch) -> None:
        """Returns the next segment's answers; sends the halves instead if a stage fails on the rows or refuses them."""
        try:
            answers = await self._forward(
                batch.rows, batch.policy, batch.evidence, self._remaining_s(batch), batch.last_stage
            )
        except Exception as error:
            failure = request_error(error)
            if is_of_the_rows(failure) and len(batch.pieces) > 1:
                for half in batch.halves():
                    await self._answer(half)
            else:
                batch.fall_back(failure)
            return
        bounds = batch.bounds
        for i, piece in enumerate(batch.pieces):
            found = answers.take(slice(bounds[i], bounds[i + 1]))
            is_answered = found.stage != PENDING
            if not is_answered.all():
                late = DeadlineExceeded("a later stage did not answer in time")
                piece.call.fall_back(piece.places[~is_answered], late)
                found = found.take(is_answered)
            places = piece.places[is_answered]
            if self._observer is not None and batch.last_stage is None:
                self._observer.returned(batch.policy, found, piece.call.latest_answer(places))
            piece.call.put(places, found)

    def _remaining_s(self, batch: Batch) -> float:
        remaining = batch.deadline - asyncio.get_running_loop().time()
        return remaining - min(RETURN_SHARE * remaining, MAX_RETURN_S) if self._has_fallback else remaining


def _cancel_when_all_are_done(task: "asyncio.Task[None]", batch: Batch) -> None:
    waiting = len(batch.pieces)

    def one_is_done(_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            task.cancel()

    for piece in batch.pieces:
        piece.call.done.add_done_callback(one_is_done)
