"""The load: a closed loop of workers."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.measurement import Measurement, Tally
from cascade.benchmarks.target import Target
from cascade.benchmarks.workload import Batch, Workload

__all__ = ["ClosedLoop"]

FAILURE_PAUSE_S = 0.01
"""A worker rests this long after a failure: a refused connection would else be tried 10,000 times a second."""


@dataclass(frozen=True)
class ClosedLoop:
    """Workers that each send a request, wait for its answer, and send the next.

    Nobody sends after the deadline, but every request that was sent is waited for and counted; a target gives up on a
    request after its own time limit, so a run ends. A closed loop slows down with its target: its latencies are those
    of this many connections, not those of a given arrival rate.

    Attributes:
        connections: number of workers, at least 1.
        seconds: how long requests are sent, above 0.
        warmup_seconds: load of the same kind before it, not counted; 0 for none.
        max_requests: of all workers together, in the counted part; ``None`` for as many as the time allows.
    """

    connections: int
    seconds: float
    warmup_seconds: float = 0.0
    max_requests: int | None = None

    async def run(self, target: Target, workload: Workload, stages: tuple[str, ...]) -> Measurement:
        """Loads an open target.

        Args:
            target: open.
            workload: sent in order, from its first batch on, by all workers together.
            stages: names of the cascade's stages.

        Raises:
            TargetError: no request at all was answered, or one was answered with nonsense.
        """
        if self.warmup_seconds:
            await self._load(target, workload.endless(), Tally(stages), self.warmup_seconds, None)
        tally = Tally(stages)
        seconds = await self._load(target, workload.endless(), tally, self.seconds, self.max_requests)
        if not tally.latency_s:
            seen = "; ".join(f"{count} x {status}: {tally.messages[status]}" for status, count in tally.errors.items())
            raise TargetError(f"no request was answered ({seen or 'none was sent'})")
        return tally.measurement(seconds)

    async def _load(
        self, target: Target, batches: Iterator[Batch], tally: Tally, seconds: float, most: int | None
    ) -> float:
        """Returns the seconds from the first request to the last answer."""
        begin = time.perf_counter()
        permits = iter(range(most)) if most is not None else iter(int, 1)
        workers = [
            asyncio.ensure_future(self._work(target, batches, tally, begin + seconds, permits))
            for _ in range(self.connections)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return time.perf_counter() - begin

    async def _work(
        self, target: Target, batches: Iterator[Batch], tally: Tally, deadline: float, permits: Iterator[int]
    ) -> None:
        while time.perf_counter() < deadline and next(permits, None) is not None:
            batch = next(batches)
            begin = time.perf_counter()
            try:
                reply = await target.send(batch.rows)
            except RequestFailed as error:
                tally.fail(error.status, error.message)
                await asyncio.sleep(FAILURE_PAUSE_S)
            else:
                tally.add(batch, reply, time.perf_counter() - begin)
