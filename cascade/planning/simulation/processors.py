"""Processors that running replicas share."""

import heapq
from typing import Any

__all__ = ["Processors"]


class Processors:
    """The processors of a machine, at most one of which works for a replica: processor sharing.

    All running jobs progress at the same speed, so one clock of progress serves them all: a job ends when the clock
    has advanced by its work, and a job that begins or ends changes the clock's speed only (Kleinrock, Queueing Systems,
    volume 2, 1976, section 4.4).

    Args:
        processors: number of them, > 0; may be a fraction.
        others: mean number of other running processes, which get equal shares of the processors, >= 0.
        slowdown: how many times longer a job takes where as many jobs run as there are processors, besides the share
            of a processor that it gets, >= 1; with fewer jobs it is interpolated.

    Attributes:
        version: rises with every change, which makes the ends computed before it void.
    """

    def __init__(self, processors: float, others: float = 0.0, slowdown: float = 1.0) -> None:
        self._processors, self._others, self._slowdown = processors, others, slowdown
        self._progress = 0.0
        self._now = 0.0
        self._speed = 1.0
        self._jobs: list[tuple[float, int, Any]] = []
        self.version = 0

    def begin(self, now: float, work: float, job: Any) -> None:
        """Adds a job that takes ``work`` alone."""
        self._advance(now)
        self.version += 1
        heapq.heappush(self._jobs, (self._progress + work, self.version, job))
        self._set_speed()

    def end(self, now: float) -> Any:
        """Removes the job that ends at this time, and returns it."""
        self._advance(now)
        self.version += 1
        job = heapq.heappop(self._jobs)[2]
        self._set_speed()
        return job

    def next_end(self) -> float | None:
        """When the next job ends, if none begins before; ``None`` if none runs."""
        return self._now + max(self._jobs[0][0] - self._progress, 0.0) / self._speed if self._jobs else None

    def _advance(self, now: float) -> None:
        self._progress += (now - self._now) * self._speed
        self._now = now

    def _set_speed(self) -> None:
        jobs = len(self._jobs)
        share = min(1.0, self._processors / max(jobs + self._others, 1.0))
        company = min(1.0, max(jobs - 1, 0) / max(self._processors - 1, 1.0))
        self._speed = share / (1.0 + (self._slowdown - 1.0) * company)
