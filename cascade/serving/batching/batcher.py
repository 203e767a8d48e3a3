"""Micro-batches: rows of many callers go through a segment together.

A batch takes whatever waits when the segment is free, so nobody waits for rows that may not come, and batches grow
with the load by themselves. Rows that the segment is sure of are answered at once; the others go on to the next
segment as one array, without holding up the next batch.

A batch runs in a thread, so that requests are read and deadlines kept meanwhile. A batch that is known to be quick runs
in the event loop itself: to hand it over and back would take as long, and on a busy machine far longer.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.errors import ConfigError, StageError
from cascade.serving.batching.batch import Batch
from cascade.serving.batching.batch_line import BatchLine
from cascade.serving.batching.call import Call
from cascade.serving.batching.forwarder import Forward, Forwarder
from cascade.serving.batching.latency_estimator import Pace
from cascade.serving.batching.observer import Observer
from cascade.serving.batching.queue import RowQueue
from cascade.serving.batching.steps import Run, Step
from cascade.serving.errors import DeadlineExceeded, StageFailed, request_error
from cascade.serving.telemetry.observations import Observations
from cascade.serving.telemetry.tracing import Tracing, current_traceparent

__all__ = ["Batcher"]

Steps = Callable[[Policy], Sequence[Step]]

logger = logging.getLogger(__name__)


class Batcher:
    """Runs calls of any size through a segment in batches of bounded size.

    Args:
        run: scores a batch; called one batch at a time, in a thread or in the event loop.
        forward: takes the rows that ``run`` was unsure of, see :class:`Forwarder`; ``None`` for the last segment.
        max_batch_rows: most rows of a batch; a larger call is split.
        max_queue_rows: most rows waiting, beyond which a call is refused; and most rows that the next segment is asked
            about at a time, beyond which it counts as overloaded.
        fallback: index of the segment's last stage, whose word is taken for rows that no later segment answers in
            time; ``None`` if that is an error.
        partial: with a fallback, whether callers take answers in which rows that were not looked at are pending.
        most_forwards: calls of ``forward`` under way at a time; rows wait for one of them to end, unless they are a
            full batch.
        observer: is told what becomes of the rows.
        seen: counts batches; ``None`` for nobody.
        tracing: makes spans of batches with rows of traced calls; ``None`` for none.
        max_inline_s: longest expected time of a batch that runs in the event loop; 0 for none.
        steps: of the segment under a policy, in the place of ``run``: before each but the first, rows of several
            batches are gathered (:class:`~cascade.serving.batching.steps.Step`).

    Attributes:
        offered_rows: all that ever came, also those that were refused.
    """

    def __init__(
        self,
        run: Run,
        forward: Forward | None,
        max_batch_rows: int,
        max_queue_rows: int,
        fallback: int | None = None,
        partial: bool = False,
        most_forwards: int = 2,
        observer: Observer | None = None,
        seen: Observations | None = None,
        tracing: Tracing | None = None,
        max_inline_s: float = 0.0,
        steps: Steps | None = None,
    ) -> None:
        whole = (Step(run),)
        self._steps: Steps = steps or (lambda policy: whole)
        self._observer = observer
        self._forwarder = None
        if forward is not None:
            has_fallback = fallback is not None
            self._forwarder = Forwarder(forward, most_forwards, max_batch_rows, max_queue_rows, has_fallback, observer)
        self._max_batch_rows = max_batch_rows
        self._fallback = fallback
        self._partial = partial
        self._seen = seen
        self._tracing = tracing
        self._queue = RowQueue(max_queue_rows)
        # Rows that wait for the second step, the third, ...
        self._lines: list[BatchLine] = []
        self._max_inline_s = max_inline_s
        self._pace: list[Pace] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._loop_task: asyncio.Task[None] | None = None
        self._running_since: float | None = None
        self.offered_rows = 0

    async def answer(
        self, rows: np.ndarray, policy: Policy, earlier: np.ndarray | None = None, timeout_s: float = math.inf
    ) -> Answers:
        """Answers the rows of one caller, in their order.

        If the caller stops waiting, rows of it that wait here or in a later segment are dropped.

        Args:
            rows: (n, ...), n >= 1.
            policy: a batch only holds rows of one version.
            earlier: (n, W), the evidence of earlier segments, where the policy has heads.
            timeout_s: seconds until the deadline.

        Raises:
            Overloaded: too many rows are waiting.
            DeadlineExceeded: there is no answer in time, and nothing to fall back to.
            RowsError: a model refuses these rows.
            StageFailed: the model of a stage failed on these rows, or broke the stage contract.
            Unavailable: a later segment is gone.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + timeout_s
        self.offered_rows += len(rows)
        call = Call(rows, policy, earlier, deadline, self._fallback, self._partial, loop.create_future(), now)
        if self._seen is not None:
            call.arrived = time.monotonic()
        if self._tracing is not None:
            call.traceparent = current_traceparent.get()
        self._queue.append(call)
        timer = None
        if timeout_s != math.inf:
            timer = loop.call_at(deadline, _expire, call, timeout_s)
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = loop.create_task(self._work())
        try:
            return await call.done
        finally:
            if timer is not None:
                timer.cancel()
            self._queue.discard(call)

    @property
    def running_s(self) -> float:
        """Seconds since the batch that runs was begun; 0 if none runs."""
        return 0.0 if self._running_since is None else time.monotonic() - self._running_since

    def waited_s(self) -> float:
        """How long the oldest rows have waited for their first batch here, or for the next segment; 0 if none wait."""
        since = [self._queue.waiting_since, *(line.since for line in self._lines)]
        since.append(None if self._forwarder is None else self._forwarder.waiting_since)
        now = asyncio.get_running_loop().time()
        return max((now - moment for moment in since if moment is not None), default=0.0)

    @property
    def is_idle(self) -> bool:
        """Whether no rows wait or run, here or on their way to the next segment and back."""
        waiting = self._queue or any(self._lines) or self._forwarder
        return not waiting and self._running_since is None

    @property
    def queue_rows(self) -> int:
        """Rows that wait for a batch."""
        return len(self._queue)

    @property
    def forwarding_rows(self) -> int:
        """Rows that the next segment is asked about, or that wait for it."""
        return 0 if self._forwarder is None else len(self._forwarder)

    def close(self) -> None:
        """Lets the running batch end and takes no further one."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Runs batches until nothing waits."""
        while (found := self._next()) is not None:
            batch, index = found
            if batch is not None:
                await self._run_batch(batch, index)
            # A batch that ran in the event loop has let nothing else happen: answers leave, and requests are read.
            await asyncio.sleep(0)

    def _next(self) -> tuple[Batch | None, int] | None:
        """The batch to run, and the index of its step; ``None`` if nothing waits.

        A later step comes first where it has gathered enough, or long enough; else the first one that has rows.
        """
        now = asyncio.get_running_loop().time()
        for index in range(len(self._lines), 0, -1):
            if self._is_gathered(index, now):
                return self._gathered(index), index
        batch = self._queue.take(self._max_batch_rows, now)
        if batch is not None:
            return batch, 0
        waiting = next((index for index, line in enumerate(self._lines, 1) if len(line)), None)
        return None if waiting is None else (self._gathered(waiting), waiting)

    def _is_gathered(self, index: int, now: float) -> bool:
        line = self._lines[index - 1]
        if line.first is None or line.since is None:
            return False
        step = self._steps(line.first.policy)[index]
        return len(line) >= step.rows or now - line.since >= step.wait_s

    def _gathered(self, index: int) -> Batch | None:
        line = self._lines[index - 1]
        step = Step(lambda *_: Answers.empty(0)) if line.first is None else self._steps(line.first.policy)[index]
        return line.take(max(step.rows, self._max_batch_rows))

    def _paced(self, index: int) -> Pace:
        while len(self._pace) <= index:
            self._pace.append(Pace(self._max_inline_s))
        return self._pace[index]

    async def _run_batch(self, batch: Batch, index: int) -> None:
        """Runs a step on a batch; if it fails, on its halves, so that only the callers at fault are refused."""
        loop = asyncio.get_running_loop()
        self._running_since = began = time.monotonic()
        if self._tracing is not None:
            self._tracing.batch(batch.traceparents)
        step, pace = self._steps(batch.policy)[index], self._paced(index)
        try:
            if pace.is_quick(len(batch.rows)):
                answers, run_s = _timed(step, batch)
            else:
                answers, run_s = await loop.run_in_executor(self._thread, _timed, step, batch)
        except Exception as error:
            if len(batch.pieces) == 1:
                logger.warning("a stage failed", exc_info=error, extra=_failure_fields(error, len(batch.rows)))
                if self._seen is not None:
                    self._seen.failed_rows += len(batch.rows)
                self._give_up(batch, index, request_error(error))
                return
            for half in batch.halves():
                await self._run_batch(half, index)
        else:
            pace.ran(len(batch.rows), run_s)
            if self._seen is not None:
                oldest = batch.pieces[0].call
                self._seen.batch_ran(len(batch.rows), began - oldest.arrived, time.monotonic() - began)
            self._deliver(batch, index, answers)
        finally:
            self._running_since = None

    def _give_up(self, batch: Batch, index: int, error: Exception) -> None:
        if index:
            batch.give_up(error)
        else:
            batch.pieces[0].call.fail(error)

    def _deliver(self, batch: Batch, index: int, answers: Answers) -> None:
        steps = self._steps(batch.policy)
        is_last = index == len(steps) - 1
        if self._observer is not None:
            self._observer.decided(batch.policy, answers if is_last else answers.take(answers.stage != PENDING))
        start = 0
        for piece in batch.pieces:
            stop = start + len(piece.places)
            said = answers.take(slice(start, stop))
            if index:
                piece.call.put(np.asarray(piece.places), said)
            else:
                piece.call.see(int(piece.places[0]), said)
            start = stop
        unsure = batch.unsure(answers)
        if unsure is None:
            return
        if len(steps) > 1:
            last = max((step.last for step in steps[: index + 1] if step.last is not None), default=None)
            for piece in unsure.pieces:
                piece.call.looked_at(piece.places, last)
        if not is_last:
            self._gather(unsure, index + 1)
        elif self._forwarder is None:
            unsure.give_up(StageFailed("the last stage was unsure, and there is no other"))
        else:
            self._forwarder.send(unsure)

    def _gather(self, batch: Batch, index: int) -> None:
        """Lets rows wait for a later step."""
        while len(self._lines) < index:
            self._lines.append(BatchLine())
        self._lines[index - 1].append(batch, asyncio.get_running_loop().time())


def _timed(step: Step, batch: Batch) -> tuple[Answers, float]:
    """The answers, and the seconds that they took."""
    began = time.perf_counter()
    answers = step.run(batch.rows, batch.policy, batch.evidence)
    return answers, time.perf_counter() - began


def _failure_fields(error: Exception, rows: int) -> dict[str, object]:
    """For the log: which stage, and how it broke the contract; the text of a model's own error might quote rows."""
    fields: dict[str, object] = {"rows": rows}
    if isinstance(error, StageError):
        fields["stage"] = error.stage
        if error.__cause__ is None or isinstance(error.__cause__, ConfigError):
            fields["problem"] = error.problem
    return fields


def _expire(call: Call, timeout_s: float) -> None:
    call.fail(DeadlineExceeded(f"no answer within {timeout_s:.3g} s"))
