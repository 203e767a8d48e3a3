"""A trace of labelled requests at given moments, independent of the answers to earlier ones."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from cascade.benchmarks.clients.answers import InvalidAnswer
from cascade.benchmarks.errors import RequestFailed
from cascade.benchmarks.harness.clients.lean_http import LeanHttpTarget

__all__ = ["Trace", "poisson_arrivals", "send_trace"]


@dataclass
class Trace:
    """The outcome of the requests of a trace, in the order in which they ended.

    Attributes:
        due_s: when each was due, from the beginning of the trace.
        latency_ms: from then to its answer; infinite for a request that failed.
        right: whether the answer was the label.
        version: of the policy that answered; empty without an answer.
        errors: requests that failed, by status.
    """

    due_s: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    version: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, due_s: float, latency_ms: float, right: bool, version: str) -> None:
        """Counts a request."""
        self.due_s.append(due_s)
        self.latency_ms.append(latency_ms)
        self.right.append(right)
        self.version.append(version)


async def send_trace(target: LeanHttpTarget, rows: np.ndarray, labels: np.ndarray, arrivals_s: np.ndarray) -> Trace:
    """Sends a request of one row at each moment.

    Args:
        target: with room for all requests under way; it is closed afterwards.
        rows: (n, ...), sent in turn.
        labels: (n,).
        arrivals_s: ascending, from now.
    """
    trace, tasks = Trace(), set[asyncio.Task[None]]()
    parts = [rows[place : place + 1] for place in range(len(rows))]
    begin = time.monotonic()

    async def ask(place: int, due_s: float) -> None:
        try:
            reply = await target.send(parts[place])
        except (RequestFailed, InvalidAnswer) as failure:
            trace.errors[failure.status if isinstance(failure, RequestFailed) else "invalid"] += 1
            trace.add(due_s, float("inf"), right=False, version="")
            return
        latency_ms = 1e3 * (time.monotonic() - begin - due_s)
        trace.add(due_s, latency_ms, bool(reply["answer"][0] == labels[place]), reply["policy_version"])

    try:
        for turn, due_s in enumerate(arrivals_s.tolist()):
            await asyncio.sleep(max(0.0, begin + due_s - time.monotonic()))
            task = asyncio.create_task(ask(turn % len(parts), due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    finally:
        await target.close()
    return trace


def poisson_arrivals(phases: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Moments of arrivals in phases of (seconds, rate per second)."""
    random = np.random.default_rng(seed)
    parts, start = [], 0.0
    for seconds, rate in phases:
        parts.append(start + np.sort(random.uniform(0, seconds, random.poisson(rate * seconds))))
        start += seconds
    return np.concatenate(parts)
