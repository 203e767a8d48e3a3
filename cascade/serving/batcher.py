"""Micro-batches: rows of many callers go through a segment together.

A batch takes whatever waits when the segment is free, so nobody waits for rows that may not come, and batches grow
with the load by themselves. Rows that the segment is sure of are answered at once; the others go on to the next
segment as one array, without holding up the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.errors import CascadeError
from cascade.serving.errors import Overloaded, StageFailed

__all__ = ["Batcher"]

Run = Callable[[np.ndarray, Policy, np.ndarray | None], Answers]
Forward = Callable[[np.ndarray, Policy, np.ndarray | None], Awaitable[Answers]]


@dataclass(eq=False)
class _Call:
    """Rows of one caller, and what is known of them so far."""

    rows: np.ndarray
    policy: Policy
    earlier: np.ndarray | None
    answers: Answers
    done: "asyncio.Future[Answers]"
    taken: int = 0
    open: int = field(init=False)

    def __post_init__(self) -> None:
        self.open = len(self.rows)

    def put(self, places: np.ndarray, said: Answers) -> None:
        """Notes answers; the last ones wake the caller up."""
        self.answers.put(places, said)
        self.open -= int((said.stage != PENDING).sum())
        if not self.open and not self.done.done():
            self.done.set_result(self.answers)

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True)
class _Piece:
    """A part of a call that is in a batch."""

    call: _Call
    places: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        return self.call.rows[self.places[0] : self.places[-1] + 1]

    @property
    def earlier(self) -> np.ndarray | None:
        return None if self.call.earlier is None else self.call.earlier[self.places[0] : self.places[-1] + 1]


class Batcher:
    """Runs calls of any size through a segment in batches of bounded size.

    Args:
        run: scores a batch; called in a thread of its own, one batch at a time.
        forward: takes the rows that ``run`` was unsure of; ``None`` for the last segment.
        max_batch_rows: most rows of a batch; a larger call is split.
        max_queue_rows: most rows waiting; a call beyond it is refused.
    """

    def __init__(self, run: Run, forward: Forward | None, max_batch_rows: int, max_queue_rows: int) -> None:
        self._run = run
        self._forward = forward
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._queue: deque[_Call] = deque()
        self._waiting_rows = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._loop_task: asyncio.Task[None] | None = None
        self._forwards: set[asyncio.Task[None]] = set()

    async def answer(self, rows: np.ndarray, policy: Policy, earlier: np.ndarray | None = None) -> Answers:
        """Answers the rows of one caller, in their order.

        Args:
            rows: (n, ...), n >= 1.
            policy: a batch only holds rows of one version.
            earlier: (n, W), the evidence of earlier segments, where the policy has heads.

        Raises:
            Overloaded: too many rows are waiting.
            StageFailed: a stage raised on these rows.
        """
        if self._waiting_rows + len(rows) > self._max_queue_rows:
            raise Overloaded(f"{self._waiting_rows} rows are waiting, {self._max_queue_rows} may; try again later")
        call = _Call(rows, policy, earlier, Answers.empty(len(rows)), asyncio.get_running_loop().create_future())
        self._queue.append(call)
        self._waiting_rows += len(rows)
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = asyncio.create_task(self._work())
        return await call.done

    def close(self) -> None:
        """Lets the running batch end and takes no further one."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        """Runs batches until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._queue:
            policy = self._queue[0].policy
            pieces = self._take(policy)
            if not pieces:
                continue
            rows, earlier = _joined(pieces)
            try:
                answers = await loop.run_in_executor(self._thread, self._run, rows, policy, earlier)
            except Exception as error:
                await self._run_each(pieces, policy, error)
                continue
            self._deliver(pieces, rows, answers, policy)

    def _take(self, policy: Policy) -> list[_Piece]:
        """Takes pieces from the front of the queue, up to a whole batch."""
        pieces, room = [], self._max_batch_rows
        while room and self._queue and self._queue[0].policy is policy:
            call = self._queue[0]
            if call.done.done():  # the caller has gone, or a piece failed
                self._waiting_rows -= len(call.rows) - call.taken
                self._queue.popleft()
                continue
            size = min(room, len(call.rows) - call.taken)
            pieces.append(_Piece(call, np.arange(call.taken, call.taken + size)))
            call.taken += size
            room -= size
            self._waiting_rows -= size
            if call.taken == len(call.rows):
                self._queue.popleft()
        return pieces

    async def _run_each(self, pieces: list[_Piece], policy: Policy, error: Exception) -> None:
        """A batch failed: runs its pieces one by one, so that only the rows at fault are refused."""
        if len(pieces) == 1:
            pieces[0].call.fail(_stage_failed(error))
            return
        loop = asyncio.get_running_loop()
        for piece in pieces:
            try:
                answers = await loop.run_in_executor(self._thread, self._run, piece.rows, policy, piece.earlier)
            except Exception as own_error:
                piece.call.fail(_stage_failed(own_error))
            else:
                self._deliver([piece], piece.rows, answers, policy)

    def _deliver(self, pieces: list[_Piece], rows: np.ndarray, answers: Answers, policy: Policy) -> None:
        start = 0
        for piece in pieces:
            piece.call.put(piece.places, answers.take(slice(start, start + len(piece.places))))
            start += len(piece.places)
        unsure = np.flatnonzero(answers.stage == PENDING)
        if len(unsure):
            task = asyncio.create_task(self._forward_rows(pieces, rows, unsure, policy, answers.evidence))
            self._forwards.add(task)
            task.add_done_callback(self._forwards.discard)

    async def _forward_rows(
        self, pieces: list[_Piece], rows: np.ndarray, unsure: np.ndarray, policy: Policy, evidence: np.ndarray | None
    ) -> None:
        """Sends the unsure rows of a batch on as one array, and hands the answers back to their callers."""
        owner = np.repeat(np.arange(len(pieces)), [len(piece.places) for piece in pieces])[unsure]
        place = np.concatenate([piece.places for piece in pieces])[unsure]
        try:
            if self._forward is None:
                raise StageFailed("the last stage was unsure, and there is no other")
            answers = await self._forward(np.ascontiguousarray(rows[unsure]), policy, evidence)
        except Exception as error:
            for index in np.unique(owner):
                pieces[index].call.fail(_stage_failed(error))
            return
        for index in np.unique(owner):
            mine = owner == index
            pieces[index].call.put(place[mine], answers.take(mine))


def _joined(pieces: list[_Piece]) -> tuple[np.ndarray, np.ndarray | None]:
    """The rows of a batch, and their evidence; pieces of one policy either all have some or none."""
    if len(pieces) == 1:
        return pieces[0].rows, pieces[0].earlier
    evidence = [piece.earlier for piece in pieces if piece.earlier is not None]
    return np.concatenate([piece.rows for piece in pieces]), np.concatenate(evidence) if evidence else None


def _stage_failed(error: Exception) -> CascadeError:
    if isinstance(error, CascadeError):
        return error
    failure = StageFailed(f"a stage failed on these rows: {type(error).__name__}")
    failure.__cause__ = error
    return failure
