"""Micro-batches: rows of many callers go through a segment together.

A batch takes whatever waits when the segment is free, so nobody waits for rows that may not come, and batches grow
with the load by themselves. Rows that the segment is sure of are answered at once; the others go on to the next
segment as one array, without holding up the next batch.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.errors import CascadeError
from cascade.serving.batch import Batch
from cascade.serving.call import Call
from cascade.serving.errors import DeadlineExceeded, Overloaded, StageFailed, Unavailable
from cascade.serving.queue import RowQueue

__all__ = ["Batcher"]

Run = Callable[[np.ndarray, Policy, np.ndarray | None], Answers]
Forward = Callable[[np.ndarray, Policy, np.ndarray | None, float], Awaitable[Answers]]

# With a fallback, answers of later segments must be back a little before the caller's own deadline.
RETURN_SHARE = 0.1
MOST_RETURN_S = 0.05

logger = logging.getLogger(__name__)


class Batcher:
    """Runs calls of any size through a segment in batches of bounded size.

    Args:
        run: scores a batch; called in a thread of its own, one batch at a time.
        forward: takes the rows that ``run`` was unsure of, their policy, their evidence, and the seconds until nobody
            waits for them any more; ``None`` for the last segment. What it leaves pending counts as late.
        max_batch_rows: most rows of a batch; a larger call is split.
        max_queue_rows: most rows waiting, beyond which a call is refused; and most rows that the next segment is asked
            about at a time, beyond which it counts as overloaded.
        fallback: index of the segment's last stage, whose word is taken for rows that no later segment answers in
            time; ``None`` if that is an error.
        partial: with a fallback, whether callers take answers in which rows that were not looked at are pending.
    """

    def __init__(
        self,
        run: Run,
        forward: Forward | None,
        max_batch_rows: int,
        max_queue_rows: int,
        fallback: int | None = None,
        partial: bool = False,
    ) -> None:
        self._run = run
        self._forward = forward
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._fallback = fallback
        self._partial = partial
        self._queue = RowQueue(max_queue_rows)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._loop_task: asyncio.Task[None] | None = None
        self._running_since: float | None = None
        self._forwards: set[asyncio.Task[None]] = set()
        self._forwarded_rows = 0

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
            StageFailed: a stage raised on these rows.
            Unavailable: a later segment is gone.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        call = Call(rows, policy, earlier, deadline, self._fallback, self._partial, loop.create_future())
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

    def close(self) -> None:
        """Lets the running batch end and takes no further one."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Runs batches until nothing waits."""
        loop = asyncio.get_running_loop()
        while (batch := self._queue.take(self._max_batch_rows, loop.time())) is not None:
            await self._run_batch(batch)

    async def _run_batch(self, batch: Batch) -> None:
        """Runs a batch; if it fails, its halves, so that in the end only the callers at fault are refused."""
        loop = asyncio.get_running_loop()
        self._running_since = time.monotonic()
        try:
            answers = await loop.run_in_executor(self._thread, self._run, batch.rows, batch.policy, batch.evidence)
        except Exception as error:
            if len(batch.pieces) == 1:
                logger.warning("a stage failed on %d rows", len(batch.rows), exc_info=error)
                batch.pieces[0].call.fail(_request_error(error))
                return
            for half in batch.halves():
                await self._run_batch(half)
        else:
            self._deliver(batch, answers)
        finally:
            self._running_since = None

    def _deliver(self, batch: Batch, answers: Answers) -> None:
        start = 0
        for piece in batch.pieces:
            stop = start + len(piece.places)
            piece.call.see(int(piece.places[0]), answers.take(slice(start, stop)))
            start = stop
        unsure = batch.unsure(answers)
        if unsure is not None:
            self._send_on(unsure)

    def _send_on(self, batch: Batch) -> None:
        """Asks the next segment, as long as one of the callers waits."""
        if self._forwarded_rows + len(batch.rows) > self._max_queue_rows:
            waiting = f"{self._forwarded_rows} rows wait for the next segment, {self._max_queue_rows} may"
            _give_up(batch, Overloaded(f"{waiting}; try again later"))
            return
        task = asyncio.get_running_loop().create_task(self._forward_batch(batch))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)
        _cancel_when_all_are_done(task, batch)

    async def _forward_batch(self, batch: Batch) -> None:
        self._forwarded_rows += len(batch.rows)
        try:
            await self._ask_next(batch)
        except asyncio.CancelledError:
            # All callers are done; or the next segment's replica was cancelled, and they must not wait for it.
            _give_up(batch, Unavailable("a later stage has stopped; try again later"))
            raise
        finally:
            self._forwarded_rows -= len(batch.rows)

    async def _ask_next(self, batch: Batch) -> None:
        """Hands the next segment's answers back; if a stage fails there, asks for the halves, as in ``_run_batch``."""
        try:
            if self._forward is None:
                raise StageFailed("the last stage was unsure, and there is no other")
            answers = await self._forward(batch.rows, batch.policy, batch.evidence, self._remaining_s(batch))
        except Exception as error:
            failure = _request_error(error)
            if isinstance(failure, StageFailed) and len(batch.pieces) > 1:
                for half in batch.halves():
                    await self._ask_next(half)
            else:
                _give_up(batch, failure)
            return
        bounds = batch.bounds
        for i, piece in enumerate(batch.pieces):
            said = answers.take(slice(bounds[i], bounds[i + 1]))
            there = said.stage != PENDING
            if not there.all():
                piece.call.give_up(piece.places[~there], DeadlineExceeded("a later stage did not answer in time"))
                said = said.take(there)
            piece.call.put(piece.places[there], said)

    def _remaining_s(self, batch: Batch) -> float:
        remaining = batch.deadline - asyncio.get_running_loop().time()
        return remaining if self._fallback is None else remaining - min(RETURN_SHARE * remaining, MOST_RETURN_S)


def _expire(call: Call, timeout_s: float) -> None:
    call.fail(DeadlineExceeded(f"no answer within {timeout_s:.3g} s"))


def _cancel_when_all_are_done(task: "asyncio.Task[None]", batch: Batch) -> None:
    waiting = len(batch.pieces)

    def one_is_done(_: object) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            task.cancel()

    for piece in batch.pieces:
        piece.call.done.add_done_callback(one_is_done)


def _give_up(batch: Batch, error: Exception) -> None:
    for piece in batch.pieces:
        piece.call.give_up(piece.places, error)


def _request_error(error: Exception) -> CascadeError:
    if isinstance(error, CascadeError):
        return error
    failure = StageFailed(f"a stage failed on these rows: {type(error).__name__}")
    failure.__cause__ = error
    return failure
