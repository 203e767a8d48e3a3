"""The load: a closed loop of workers, or an open loop of arrivals."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.measurement import Measurement, Tally
from cascade.benchmarks.target import Target
from cascade.benchmarks.workload import Batch, Workload

__all__ = ["ClosedLoop", "Load", "OpenLoop"]

FAILURE_PAUSE_S = 0.01
"""Pause of a worker after a failure: otherwise it would try a refused connection 10,000 times per second."""

ARRIVALS_SEED = 0
MOST_IN_A_ROW = 32
NOT_SENT = "not sent"


class Load(Protocol):
    """A way to send requests."""

    @property
    def seconds(self) -> float:
        """Time for which requests are sent in the counted part."""

    async def run(self, target: Target, workload: Workload, stages: tuple[str, ...]) -> Measurement:
        """Loads an open target; the numbers are of the counted part.

        Args:
            target: open.
            workload: sent in order, from its first batch on.
            stages: names of the cascade's stages.

        Raises:
            TargetError: no request was answered, or an answer is invalid.
        """


@dataclass(frozen=True)
class ClosedLoop:
    """Workers that each send a request, wait for its answer, and send the next.

    No request is sent after the deadline, but every request that was sent is waited for and counted; a target gives up
    on a request after its own time limit, so a run ends. A closed loop slows down with its target: its latencies are
    those of this many connections, not those of a given arrival rate.

    Attributes:
        connections: number of workers, at least 1.
        seconds: for which requests are sent, above 0.
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
            TargetError: no request was answered, or an answer is invalid.
        """
        if self.warmup_seconds:
            await self._load(target, workload.endless(), Tally(stages), self.warmup_seconds, None)
        tally = Tally(stages)
        seconds = await self._load(target, workload.endless(), tally, self.seconds, self.max_requests)
        return _measurement(tally, seconds)

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


@dataclass(frozen=True)
class OpenLoop:
    """Requests at random moments of a given rate, independent of the answers to earlier ones: a Poisson process.

    The latency of a request counts from the moment when it was due, so if a target (or this process) hangs for a
    second, that second counts for every request that was due in it; in a closed loop it would count for one request per
    worker ("coordinated omission"; Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI
    2006, https://www.usenix.org/conference/nsdi-06/open-versus-closed-cautionary-tale).

    Attributes:
        rate_per_s: mean arrivals per second, above 0.
        seconds: for which requests arrive, above 0; those that were sent by then are waited for and counted.
        warmup_seconds: arrivals of the same rate before it, not counted; 0 for none.
        most_under_way: a request that is due while so many wait for their answers is not sent, and counts as failed
            with the status "not sent".
    """

    rate_per_s: float
    seconds: float
    warmup_seconds: float = 0.0
    most_under_way: int = 10_000

    async def run(self, target: Target, workload: Workload, stages: tuple[str, ...]) -> Measurement:
        """Loads an open target.

        Args:
            target: open; where it delays requests to keep to its number of connections, the delay counts as latency.
            workload: sent in order, from its first batch on.
            stages: names of the cascade's stages.

        Raises:
            TargetError: no request was answered, or an answer is invalid.
        """
        random = np.random.default_rng(ARRIVALS_SEED)
        if self.warmup_seconds:
            warmup = arrivals(self.rate_per_s, self.warmup_seconds, random)
            await self._load(target, workload.endless(), Tally(stages), warmup)
        tally = Tally(stages)
        due = arrivals(self.rate_per_s, self.seconds, random)
        return _measurement(tally, await self._load(target, workload.endless(), tally, due))

    async def _load(self, target: Target, batches: Iterator[Batch], tally: Tally, due: np.ndarray) -> float:
        """Returns the seconds from the start to the last answer."""
        begin = time.perf_counter()
        under_way: set[asyncio.Task[None]] = set()
        invalid: list[BaseException] = []

        def end(task: "asyncio.Task[None]") -> None:
            under_way.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                invalid.append(error)

        try:
            in_a_row = 0
            for moment in (begin + due).tolist():
                early = moment - time.perf_counter()
                in_a_row = 0 if early > 0 else in_a_row + 1
                # Answers are read while this sleeps; to sleep before every late request would cost too much.
                if early > 0 or in_a_row % MOST_IN_A_ROW == 0:
                    await asyncio.sleep(max(early, 0.0))
                if invalid:
                    break
                if len(under_way) >= self.most_under_way:
                    tally.fail(NOT_SENT, f"{self.most_under_way} requests were waiting for their answers")
                    continue
                task = asyncio.create_task(_send(target, next(batches), tally, moment))
                under_way.add(task)
                task.add_done_callback(end)
            if not invalid:
                await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if invalid:
            raise invalid[0]
        return time.perf_counter() - begin


def arrivals(rate_per_s: float, seconds: float, random: np.random.Generator) -> np.ndarray:
    """(n,) seconds in [0, ``seconds``), ascending: a Poisson process; at least one.

    Given their number, the moments of a Poisson process are uniform and independent.
    """
    count = max(random.poisson(rate_per_s * seconds), 1)
    return np.sort(random.uniform(0.0, seconds, count))


async def _send(target: Target, batch: Batch, tally: Tally, begin: float) -> None:
    """Sends one request and counts its outcome; its latency is from ``begin`` on."""
    try:
        reply = await target.send(batch.rows)
    except RequestFailed as error:
        tally.fail(error.status, error.message)
    else:
        tally.add(batch, reply, time.perf_counter() - begin)


def _measurement(tally: Tally, seconds: float) -> Measurement:
    """The numbers of a load that has ended; an error where nothing was answered."""
    if not tally.latency_s:
        seen = "; ".join(f"{count} x {status}: {tally.messages[status]}" for status, count in tally.errors.items())
        raise TargetError(f"no request was answered ({seen or 'none was sent'})")
    return tally.measurement(seconds)
