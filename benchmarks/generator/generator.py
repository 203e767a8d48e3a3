"""Sends the requests of a load from one process, each at its moment, and records what becomes of them."""

import asyncio
import gc
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.benchmarks.clients.lane import ANSWERED, CONNECTION, NOT_SENT, TIMEOUT, Lane
from cascade.benchmarks.generator.precise_timer import PreciseTimer
from cascade.benchmarks.generator.slices import RECORD, RowSums, Slice
from cascade.benchmarks.workload import Picker, Workload

__all__ = ["Generator", "Plan"]

SLICE_S = 0.2
FAILURE_PAUSE_S = 0.05
"""Pause of a lane of a closed loop after a failure: it would try a refused connection 10,000 times a second."""
LEAST_TIMEOUT_S = 1e-3
"""Told to the target for a request that is sent at or after its deadline."""
MOST_IN_A_ROW = 32
"""Late requests are sent in groups of so many, since answers are read between the groups."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What one process sends.

    Attributes:
        seconds: for which requests are sent, with the warm-up.
        warmup_seconds: the part that is not measured.
        timeout_s: a request without an answer by then counts as failed.
        due: (n,) seconds, ascending; ``None`` for a closed loop.
        sizes: (n,) rows of each request; ``None`` for the workload's.
        order: (n,) place of each request in the order of all arrivals; ``None`` in a closed loop.
        deadlines: seconds from the moment of a request to its deadline, by its place in the order of all arrivals;
            infinite for none. ``None`` if no request has one.
        max_requests: of a closed loop; ``None`` for as many as the time allows.
        part: number of the process.
    """

    seconds: float
    warmup_seconds: float
    timeout_s: float
    due: np.ndarray | None = None
    sizes: np.ndarray | None = None
    order: np.ndarray | None = None
    deadlines: np.ndarray | None = None
    max_requests: int | None = None
    part: int = 0


class _Seat:
    """A lane with the request that is under way on it."""

    __slots__ = ("busy", "due", "generator", "handled", "lane", "order", "request", "sent")

    def __init__(self, lane: Lane, generator: "Generator") -> None:
        self.lane, self.generator = lane, generator
        self.busy = False

    def send(self, due: float, handled: float, request: int, order: int) -> None:
        self.due, self.handled, self.request, self.order = due, handled, request, order
        self.busy = True
        self.sent = time.monotonic()
        self.lane.send(request, self.done, self.generator.timeout_s(due, order, self.sent))

    def done(self, status: int, content: Any) -> None:
        if self.busy:
            self.busy = False
            self.generator.end(self, status, content)

    def time_out(self) -> None:
        self.busy = False
        self.lane.abort()
        self.generator.end(self, TIMEOUT, "no answer in time")


class Generator:
    """Sends the requests of a plan over open lanes.

    Args:
        plan: what to send.
        lanes: open, at least one.
        workload: what the requests are about.
        picker: chooses the requests.
        emit: called with a slice five times a second, and at the end with the last one.
        clock: of the processor time that the generator uses.
    """

    def __init__(
        self,
        plan: Plan,
        lanes: Sequence[Lane],
        workload: Workload,
        picker: Picker,
        emit: Callable[[Slice], None],
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._plan, self._batches, self._emit, self._clock = plan, workload.batches, emit, clock
        self._pick = picker.next
        self._seats = [_Seat(lane, self) for lane in lanes]
        self._idle = deque(self._seats)
        self._waiting: deque[tuple[float, float, int, int]] = deque()
        self._due = [] if plan.due is None else plan.due.tolist()
        self._order = list(range(len(self._due))) if plan.order is None else plan.order.tolist()
        self._sizes = None if plan.sizes is None else plan.sizes.tolist()
        self._deadlines: list[float] | None = None if plan.deadlines is None else plan.deadlines.tolist()
        self._place = 0
        self._sent = 0
        self._records: list[tuple[float, float, float, float, int, int, int]] = []
        self._sums = RowSums()
        self._messages: dict[int, str] = {}
        self._stopped = False

    def stop(self) -> None:
        """Sends no further requests, and does not wait for answers."""
        self._stopped = True

    async def run(self, begin: float) -> None:
        """Sends until the time is over, and waits for answers no longer than the time limit of a request.

        Args:
            begin: moment of ``time.monotonic`` from which all moments count; a closed loop of a process that comes
                later, because the machine was paused, counts from then, and lasts as long as planned.
        """
        self._processor_s = self._clock()
        while (left := begin - time.monotonic()) > 0:  # a timer may end early, and requests before count nowhere
            await asyncio.sleep(left)
        self._begin = time.monotonic() if self._plan.due is None else begin
        self._end = self._begin + self._plan.seconds
        gc.disable()  # a collection would delay requests
        timer = PreciseTimer(self._send_due)
        self._timer = timer
        try:
            if self._plan.due is None:
                for seat in self._seats:
                    self._send_next(seat)
            elif self._due:
                timer.set(begin + self._due[0])
            await self._watch()
        finally:
            timer.close()
            gc.enable()
            self._give_up()
            self._hand_over(ends=True)

    async def _watch(self) -> None:
        """Hands slices over and ends requests that take too long, until all has ended."""
        while not self._stopped:
            await asyncio.sleep(SLICE_S / 2)
            now = time.monotonic()
            if now >= self._end:
                self._refuse_waiting()
            late = now - self._plan.timeout_s
            for seat in self._seats:
                if seat.busy and seat.sent < late:
                    seat.time_out()
            self._hand_over()
            if self._has_ended(now) and not any(seat.busy for seat in self._seats):
                break

    def _has_ended(self, now: float) -> bool:
        if self._plan.due is not None:
            return now >= self._end or (self._place == len(self._due) and not self._waiting)
        return now >= self._end or self._is_enough()

    def _is_enough(self) -> bool:
        return self._plan.max_requests is not None and self._sent >= self._plan.max_requests

    def _send_next(self, seat: _Seat) -> None:
        """Sends the next request of a closed loop."""
        now = time.monotonic()
        if now < self._end and not self._stopped and not seat.busy and not self._is_enough():
            self._sent += 1
            seat.send(now, now, self._pick(now - self._begin), -1)

    def _send_due(self) -> None:
        """Sends the requests of an open loop that are due."""
        due, begin = self._due, self._begin
        for _ in range(MOST_IN_A_ROW):
            if self._place == len(due) or self._stopped:
                return
            moment = begin + due[self._place]
            now = time.monotonic()
            if moment > now:
                break
            if now >= self._end:
                return
            place = self._place
            self._place += 1
            request = self._pick(due[place], None if self._sizes is None else self._sizes[place])
            if self._idle:
                self._idle.popleft().send(moment, now, request, self._order[place])
            else:
                self._waiting.append((moment, now, request, self._order[place]))
        if self._place < len(due):
            self._timer.set(begin + due[self._place])

    def end(self, seat: _Seat, status: int, content: Any) -> None:
        """Records the end of a request, and sends the next one on its lane."""
        begin = self._begin
        if status == ANSWERED and seat.due - begin >= self._plan.warmup_seconds:
            self._sums.add(self._batches[seat.request], content)
        elif status != ANSWERED:
            self._messages.setdefault(status, str(content)[:300])
        self._records.append(
            (
                seat.due - begin,
                seat.handled - begin,
                seat.sent - begin,
                time.monotonic() - begin,
                seat.request,
                seat.order,
                status,
            )
        )
        if self._plan.due is None:
            if status == ANSWERED:
                self._send_next(seat)
            else:
                asyncio.get_running_loop().call_later(FAILURE_PAUSE_S, self._send_next, seat)
        elif status == CONNECTION and self._waiting:
            asyncio.get_running_loop().call_later(FAILURE_PAUSE_S, self._free, seat)
        else:
            self._free(seat)

    def timeout_s(self, due: float, order: int, now: float) -> float | None:
        """Seconds that are left until the deadline of a request; ``None`` if it has none.

        Args:
            due: moment of the request.
            order: its place in the order of all arrivals.
            now: moment from which the seconds count.
        """
        if self._deadlines is None or math.isinf(self._deadlines[order]):
            return None
        return max(due + self._deadlines[order] - now, LEAST_TIMEOUT_S)

    def _free(self, seat: _Seat) -> None:
        """Sends the request of an open loop that has waited longest and is not beyond its deadline, if any."""
        while self._waiting and not self._stopped and (now := time.monotonic()) < self._end:
            due, handled, request, order = self._waiting.popleft()
            if self._deadlines is None or now < due + self._deadlines[order]:
                seat.send(due, handled, request, order)
                return
            begin, nan = self._begin, float("nan")
            self._records.append((due - begin, handled - begin, nan, now - begin, request, order, NOT_SENT))
            self._messages.setdefault(NOT_SENT, "its deadline passed before a connection was free")
        self._idle.append(seat)

    def _refuse_waiting(self) -> None:
        """Records the requests that were due and never sent."""
        end, nan = self._end - self._begin, float("nan")
        for moment, handled, request, order in self._waiting:
            self._records.append((moment - self._begin, handled - self._begin, nan, end, request, order, NOT_SENT))
        self._waiting.clear()
        left = zip(self._due[self._place :], self._order[self._place :])
        self._records += [(due, nan, nan, end, -1, order, NOT_SENT) for due, order in left if due < end]
        self._place = len(self._due)
        if self._records and self._records[-1][-1] == NOT_SENT:
            self._messages.setdefault(NOT_SENT, "the time was over before it could be sent")

    def _give_up(self) -> None:
        for seat in self._seats:
            if seat.busy:
                seat.busy = False
                seat.lane.abort()

    def _hand_over(self, ends: bool = False) -> None:
        records = np.array(self._records, dtype=RECORD)
        processor_s = self._clock()
        self._emit(Slice(records, self._sums, self._messages, processor_s - self._processor_s, ends, self._plan.part))
        self._processor_s = processor_s
        self._records, self._sums, self._messages = [], RowSums(), {}
