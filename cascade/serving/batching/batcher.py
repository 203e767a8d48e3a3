"""Micro-batches: rows of many callers go through a segment together.

A batch takes all rows that wait when the segment is free: no row waits for others that may not come, and batches grow
with the load by themselves. Rows that the segment is sure of are answered at once; the others go on to the next segment
as one array, while the next batch runs.

A batch runs in a thread, so that requests are read and deadlines met meanwhile. A batch that is expected to be quick
runs in the event loop itself: handing it over and back would take as long, and far longer on a busy machine.
"""

import asyncio
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy
from cascade.errors import ConfigError, StageError
from cascade.routers import Evidence
from cascade.serving.batching.batch import Batch
from cascade.serving.batching.call import Call
from cascade.serving.batching.forwarder import Forward, Forwarder
from cascade.serving.batching.latency_estimator import LatencyEstimator
from cascade.serving.batching.observer import Observer
from cascade.serving.batching.step_scheduler import StepScheduler
from cascade.serving.batching.steps import Step, Steps
from cascade.serving.errors import DeadlineExceeded, StageFailed, request_error
from cascade.serving.telemetry.observations import Observations
from cascade.serving.telemetry.tracing import Tracing, current_traceparent

__all__ = ["Batcher", "BatcherOptions"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatcherOptions:
    """Limits of a batcher.

    Attributes:
        max_batch_rows: most rows of a batch; a larger call is split.
        max_queue_rows: most rows that wait, beyond which a call is refused; and most rows that are with the next
            segment, beyond which it counts as overloaded.
        fallback: index of the segment's last stage, whose answer a row gets if no later segment answers it in time;
            ``None`` if that is an error.
        partial: with a fallback, whether callers accept answers in which rows that were not processed are pending.
        max_forwards: calls of the next segment under way at a time; rows wait for one of them to end, unless they are a
            full batch.
        max_inline_s: longest expected time of a batch that runs in the event loop; 0 for none.
    """

    max_batch_rows: int
    max_queue_rows: int
    fallback: int | None = None
    partial: bool = False
    max_forwards: int = 2
    max_inline_s: float = 0.0


class Batcher:
    """Runs calls of any size through a segment in batches of bounded size.

    Args:
        steps: of the segment; one batch runs at a time, in a thread or in the event loop, and before each step but the
            first, rows of several batches are gathered.
        forward: answers the rows that the segment defers; ``None`` for the last segment.
        options: see there.
        observer: called with the answers of rows that may go to all stages.
        stats: counts batches; ``None`` for none.
        tracing: makes spans of batches with rows of traced calls; ``None`` for none.

    Attributes:
        offered_rows: all that ever came, including those that were refused.
    """

    def __init__(
        self,
        steps: Steps,
        forward: Forward | None,
        options: BatcherOptions,
        observer: Observer | None = None,
        stats: Observations | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._steps = steps
        self._options = options
        self._observer = observer
        self._stats = stats
        self._tracing = tracing
        self._forwarder = None
        if forward is not None:
            self._forwarder = Forwarder(
                forward,
                options.max_forwards,
                options.max_batch_rows,
                options.max_queue_rows,
                options.fallback is not None,
                observer,
            )
        self._scheduler = StepScheduler(steps, options.max_batch_rows, options.max_queue_rows)
        self._estimators: list[LatencyEstimator] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._loop_task: asyncio.Task[None] | None = None
        self._running_since: float | None = None
        self.offered_rows = 0

    async def answer(
        self,
        rows: np.ndarray,
        policy: Policy,
        evidence: Evidence | None = None,
        timeout_s: float = math.inf,
        last_stage: int | None = None,
    ) -> Answers:
        """Answers the rows of one caller, in their order.

        If the caller stops waiting, rows of it that wait here or in a later segment are dropped.

        Args:
            rows: (n, ...), n >= 1.
            policy: that routes them.
            evidence: of n rows, from earlier segments, where the policy needs it.
            timeout_s: seconds until the deadline.
            last_stage: index of the last stage that may run on them; ``None`` for all stages.

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
        fallback, partial = self._options.fallback, self._options.partial
        call = Call(rows, policy, evidence, last_stage, deadline, fallback, partial, loop.create_future(), now)
        if self._stats is not None:
            call.arrived_at = time.monotonic()
        if self._tracing is not None:
            call.traceparent = current_traceparent.get()
        self._scheduler.append(call)
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
            self._scheduler.discard(call)

    @property
    def running_s(self) -> float:
        """Seconds since the running batch began; 0 if none runs."""
        return 0.0 if self._running_since is None else time.monotonic() - self._running_since

    def longest_wait_s(self) -> float:
        """How long the oldest rows have waited for a step here, or for the next segment; 0 if none wait."""
        forwarded_at = None if self._forwarder is None else self._forwarder.oldest_at
        now = asyncio.get_running_loop().time()
        moments = (self._scheduler.oldest_at, forwarded_at)
        return max((now - moment for moment in moments if moment is not None), default=0.0)

    @property
    def is_idle(self) -> bool:
        """Whether no rows wait or run, here or on their way to the next segment and back."""
        return not (self._scheduler or self._forwarder) and self._running_since is None

    @property
    def queue_rows(self) -> int:
        """Rows that wait for a batch."""
        return self._scheduler.queue_rows

    @property
    def forwarding_rows(self) -> int:
        """Rows that are with the next segment, or wait for it."""
        return 0 if self._forwarder is None else len(self._forwarder)

    def estimator(self, step: int) -> LatencyEstimator:
        """Of the time that batches take in a step of the segment."""
        while len(self._estimators) <= step:
            self._estimators.append(LatencyEstimator(self._options.max_inline_s))
        return self._estimators[step]

    def close(self) -> None:
        """Lets the running batch end, and starts no further one."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Runs batches until no rows wait."""
        loop = asyncio.get_running_loop()
        while (found := self._scheduler.next(loop.time())) is not None:
            batch, index = found
            if batch is not None:
                await self._run_batch(batch, index)
            # While a batch ran in the event loop, nothing else did: here answers leave, and requests are read.
            await asyncio.sleep(0)

    async def _run_batch(self, batch: Batch, index: int) -> None:
        """Runs a step on a batch; if it fails, on its halves, so that only the callers at fault are refused."""
        loop = asyncio.get_running_loop()
        self._running_since = began = time.monotonic()
        if self._tracing is not None:
            self._tracing.start_batch(batch.traceparents)
        step, estimator = self._steps(batch.policy)[index], self.estimator(index)
        try:
            if estimator.is_quick(len(batch.rows)):
                answers, run_s = _timed(step, batch)
            else:
                answers, run_s = await loop.run_in_executor(self._thread, _timed, step, batch)
        except Exception as error:
            if len(batch.pieces) == 1:
                self._fail(batch, index, error)
                return
            for half in batch.halves():
                await self._run_batch(half, index)
        else:
            estimator.add(len(batch.rows), run_s)
            if self._stats is not None:
                self._stats.batch_ran(len(batch.rows), began - batch.arrived_at, time.monotonic() - began)
            self._deliver(batch, index, answers)
        finally:
            self._running_since = None

    def _fail(self, batch: Batch, index: int, error: Exception) -> None:
        """Ends the only call of a batch on which a stage failed; one that has been through a step may fall back."""
        logger.warning("a stage failed", exc_info=error, extra=_failure_fields(error, len(batch.rows)))
        if self._stats is not None:
            self._stats.failed_rows += len(batch.rows)
        failure = request_error(error)
        if index:
            batch.fall_back(failure)
        else:
            batch.pieces[0].call.fail(failure)

    def _deliver(self, batch: Batch, index: int, answers: Answers) -> None:
        """Gives the answers of a step to their calls, and passes the deferred rows on."""
        steps = self._steps(batch.policy)
        is_last = index == len(steps) - 1
        if self._observer is not None and batch.last_stage is None:
            self._observer.decided(batch.policy, answers if is_last else answers.take(answers.stage != PENDING))
        start = 0
        for piece in batch.pieces:
            stop = start + len(piece.places)
            found = answers.take(slice(start, stop))
            if index:
                piece.call.put(np.asarray(piece.places), found)
            else:
                piece.call.put_processed(int(piece.places[0]), found)
            start = stop
        deferred = batch.deferred(answers)
        if deferred is None:
            return
        if len(steps) > 1:
            run = [step.last_stage for step in steps[: index + 1] if step.last_stage is not None]
            for piece in deferred.pieces:
                piece.call.set_fallback_stage(piece.places, max(run, default=None))
        if not is_last:
            self._scheduler.gather(deferred, index + 1, asyncio.get_running_loop().time())
        elif self._forwarder is None:
            deferred.fall_back(StageFailed("the last stage was unsure, and there is no other"))
        else:
            self._forwarder.send(deferred)


def _timed(step: Step, batch: Batch) -> tuple[Answers, float]:
    """The answers, and the seconds that they took."""
    began = time.perf_counter()
    answers = step.run(batch.rows, batch.policy, batch.evidence, batch.last_stage)
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
