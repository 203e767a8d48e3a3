"""What a simulation found."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["WARM_UP", "Outcome", "SegmentOutcome"]

WARM_UP = 0.1
"""Share of the requests, the first ones, that do not count."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True)
class SegmentOutcome:
    """One segment.

    Attributes:
        utilisation: mean share of the time in which a replica runs a micro-batch.
        busiest: of its replicas, that share.
        queue_rows: mean number of rows that wait for a micro-batch, of all replicas together.
        longest_queue_rows: most of one replica.
        batch_rows: mean size of a micro-batch.
    """

    utilisation: float
    busiest: float
    queue_rows: float
    longest_queue_rows: int
    batch_rows: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """A simulation.

    Attributes:
        arrival_ms: (n,) of each request.
        end_ms: (n,) when it was answered.
        rows: (n,) of it.
        segments: S.
        offered_rows_per_s: rate of the requests; infinite in a closed loop.
        wall_s: time that the simulation took.
    """

    arrival_ms: np.ndarray
    end_ms: np.ndarray
    rows: np.ndarray
    segments: tuple[SegmentOutcome, ...]
    offered_rows_per_s: float
    wall_s: float

    @cached_property
    def latency_ms(self) -> np.ndarray:
        """(m,) from the arrival of a request to its answer, without the first tenth."""
        return np.asarray((self.end_ms - self.arrival_ms)[self._first :])

    @property
    def _first(self) -> int:
        return int(WARM_UP * len(self.rows))

    @property
    def rows_per_s(self) -> float:
        """Rows that were answered per second, without the first tenth of the answers."""
        order = np.argsort(self.end_ms, kind="stable")
        begin, end = self.end_ms[order[self._first]], self.end_ms[order[-1]]
        return 1e3 * float(self.rows[order[self._first + 1 :]].sum()) / max(float(end - begin), 1e-9)

    def latency_percentile(self, percent: float) -> float:
        """In ms; ``percent`` in [0, 100]."""
        return float(np.percentile(self.latency_ms, percent))

    @property
    def keeps_up(self) -> bool:
        """Whether the cascade answers as fast as requests come: the backlog does not grow from half to half."""
        half = len(self.latency_ms) // 2
        first, second = float(self.latency_ms[:half].mean()), float(self.latency_ms[half:].mean())
        return self.rows_per_s >= 0.97 * self.offered_rows_per_s or second <= 1.5 * first

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        latency = {name: self.latency_percentile(percent) for name, percent in PERCENTILES.items()}
        return {
            "requests": len(self.rows),
            "rows_per_s": self.rows_per_s,
            "latency_ms": {**latency, "mean": float(self.latency_ms.mean())},
            "segments": [dict(vars(segment)) for segment in self.segments],
            "wall_s": self.wall_s,
        }
