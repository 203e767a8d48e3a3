"""A plan of segments: which stages share a process, and how many replicas each segment has."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration import Policy, ScoreTable
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.routing_problem import calibrated_confidence
from cascade.errors import ScoreTableError
from cascade.routers import reached_stages

__all__ = [
    "SegmentPlan",
    "StageLoad",
    "Transport",
    "best_segments",
    "fewest_segments",
    "mean_answer_ms",
    "plan_segments",
    "share_replicas",
]

Segments = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class StageLoad:
    """The load of each of K stages under a policy.

    Attributes:
        stage: K names.
        reach: (K,) in [0, 1], share of all rows that reach the stage or pass it on their way to the last one; 1 for
            the first stage, and never more than for the stage before.
        cost_ms: (K,) >= 0, mean time per such row at the stage, in milliseconds.
    """

    stage: tuple[str, ...]
    reach: np.ndarray
    cost_ms: np.ndarray

    @classmethod
    def measure(cls, table: ScoreTable, policy: Policy, arrivals: Arrivals | None = None) -> "StageLoad":
        """Replays a policy on a score table whose costs are times.

        Args:
            table: of the policy's stages.
            policy: the operating point.
            arrivals: how many rows come together, if the table has cost curves; by default the policy's own.

        Raises:
            ScoreTableError: the table is of other stages, or its costs are not in milliseconds.
        """
        if tuple(map(str, table.stage)) != policy.stages:
            raise ScoreTableError(f"the policy is for stages {list(policy.stages)}, the table has {list(table.stage)}")
        if table.cost_unit != "ms":
            raise ScoreTableError(
                f"a plan needs costs in ms; the table's are in {table.cost_unit}; use 'cascade collect --cost time'"
            )
        asked = reached_stages(
            calibrated_confidence(table, policy.routers), policy.thresholds, policy.defer_below, policy.runs
        )
        # A row that is deferred early travels through the segments in between all the same.
        reached = np.logical_or.accumulate(asked[:, ::-1], axis=1)[:, ::-1]
        rows = reached.sum(axis=0)
        # Rows of a dynamic stage differ in cost, and the rows that reach a stage are not a random sample.
        shares = np.where(asked, table.work, 0.0).mean(axis=0)
        prices = table.prices(arrivals or policy.arrivals or DEFAULT_ARRIVALS)
        if prices is None:
            per_row, alone = shares, table.work.mean(axis=0)
        else:
            per_row = np.array([float(prices.of_stage(k, share)) for k, share in enumerate(shares)])
            alone = prices.secant(shares) * table.work.mean(axis=0)
        reach = rows / len(table)
        return cls(policy.stages, reach, np.where(rows > 0, per_row / np.maximum(reach, 1 / len(table)), alone))

    @property
    def per_row_ms(self) -> np.ndarray:
        """(K,) mean time of the stage per row of the cascade, in milliseconds."""
        return np.asarray(self.reach * self.cost_ms)


@dataclass(frozen=True)
class Transport:
    """The times of moving rows between processes.

    Attributes:
        hop_ms: of one call from a segment to the next, of any size, in milliseconds.
        batch_rows: rows of a full batch.
        request_ms: of a gateway for reading and answering a request of one row, in milliseconds.
    """

    hop_ms: float
    batch_rows: int
    request_ms: float = 0.0


@dataclass(frozen=True)
class SegmentPlan:
    """A grouping of stages and its replicas.

    Attributes:
        segments: names of the stages of each segment.
        reach: share of all rows that reach each segment.
        load_ms: mean time of each segment per row of the cascade, including its hop or request, in milliseconds.
        replicas: number for each segment.
        mean_answer_ms: mean time to an answer with full batches and no queue, see :func:`mean_answer_ms`.
        rows_per_s: throughput if no replica is busy for more than ``utilisation`` of the time.
        utilisation: in (0, 1].
    """

    segments: tuple[tuple[str, ...], ...]
    reach: tuple[float, ...]
    load_ms: tuple[float, ...]
    replicas: tuple[int, ...]
    mean_answer_ms: float
    rows_per_s: float
    utilisation: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**vars(self), "segments": [list(segment) for segment in self.segments]}

    def serving(self) -> dict[str, Any]:
        """Keys of the configuration's ``serving``."""
        return {"segments": [list(segment) for segment in self.segments], "gateways": self.replicas[0]}

    def deployments(self, autoscale: bool = False) -> dict[str, dict[str, Any]]:
        """Keys of ``deployment`` for the first stage of each later segment.

        Args:
            autoscale: start with the planned replicas, and let Ray Serve scale between one and twice as many.
        """
        return {
            segment[0]: {"autoscaling_config": _autoscaling(replicas)} if autoscale else {"num_replicas": replicas}
            for segment, replicas in zip(self.segments[1:], self.replicas[1:], strict=True)
        }


def plan_segments(
    load: StageLoad,
    transport: Transport,
    begins: Sequence[bool] | None = None,
    rate: float | None = None,
    replicas: int | None = None,
    utilisation: float = 0.7,
) -> SegmentPlan:
    """Groups the stages into segments and assigns replicas.

    For a rate, the grouping minimises the mean time to an answer, and each segment gets as many replicas as it needs.
    For a number of replicas, the grouping maximises throughput: the stages' own time is the same in every grouping,
    and hops only add to it, so a segment starts only where it must.

    Args:
        load: of the stages.
        transport: times between processes.
        begins: K, whether the stage must start a segment, as a stage with its own GPU must.
        rate: rows per second to plan for.
        replicas: without a rate, their total number; it is raised to the number of segments. By default the grouping
            minimises the mean time to an answer, with one replica per segment.
        utilisation: maximum share of the time that a replica is busy, in (0, 1]; the rest is for bursts.
    """
    segments = best_segments(load, transport, begins) if replicas is None else fewest_segments(len(load.stage), begins)
    segment_ms = np.array([load.per_row_ms[list(segment)].sum() for segment in segments])
    hop_row_ms = transport.hop_ms / transport.batch_rows
    segment_ms += np.array([transport.request_ms, *[hop_row_ms] * (len(segments) - 1)])
    if rate is None:
        counts = share_replicas(segment_ms, max(replicas or 0, len(segments)))
    else:
        counts = np.maximum(1, np.ceil(rate * segment_ms / 1000 / utilisation - 1e-9)).astype(np.int64)
    slowest_ms = float((segment_ms / counts).max())
    return SegmentPlan(
        segments=tuple(tuple(load.stage[k] for k in segment) for segment in segments),
        reach=tuple(float(load.reach[segment[0]]) for segment in segments),
        load_ms=tuple(segment_ms.tolist()),
        replicas=tuple(counts.tolist()),
        mean_answer_ms=mean_answer_ms(segments, load, transport),
        rows_per_s=1000 * utilisation / slowest_ms if slowest_ms else math.inf,
        utilisation=utilisation,
    )


def mean_answer_ms(segments: Segments, load: StageLoad, transport: Transport) -> float:
    """Mean time to an answer under load, in milliseconds, without queues.

    A row waits for its whole batch in every segment that it reaches, and for a hop before every segment but the first.
    An expensive stage therefore delays the rows that a cheap stage of the same process accepted, and a process of its
    own delays the rows that are sent there. Segment s, with the stages k, adds

        reach_s (hop_ms [s > 0] + batch_rows sum_k reach_k cost_k).

    Args:
        segments: indices of stages, in order.
        load: of the stages.
        transport: times between processes; the batches are those of the first segment.
    """
    busy = [transport.batch_rows * float(load.per_row_ms[list(segment)].sum()) for segment in segments]
    hops = [0.0, *[transport.hop_ms] * (len(segments) - 1)]
    reach = [float(load.reach[segment[0]]) for segment in segments]
    return sum(share * (hop + time) for share, hop, time in zip(reach, hops, busy, strict=True))


def best_segments(load: StageLoad, transport: Transport, begins: Sequence[bool] | None = None) -> Segments:
    """The grouping with the smallest :func:`mean_answer_ms`; among equals, the one with the fewest segments.

    The time is a sum over segments, so the best grouping of the first stages is part of a best grouping of all
    (dynamic programming, K^2 steps).

    Args:
        load: of the K stages.
        transport: times between processes.
        begins: K, whether the stage must start a segment.
    """
    k = len(load.stage)
    forced = [False] * k if begins is None else list(begins)
    before = np.concatenate([[0.0], np.cumsum(load.per_row_ms)])
    # best[j]: (time, number of segments, start of the last one) of the first j stages.
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)]
    for stop in range(1, k + 1):
        options = []
        for start in range(stop - 1, -1, -1):
            hop = transport.hop_ms if start else 0.0
            time = float(load.reach[start] * (hop + transport.batch_rows * (before[stop] - before[start])))
            options.append((best[start][0] + time, best[start][1] + 1, start))
            if forced[start]:
                break
        best.append(min(options))
    segments: list[tuple[int, ...]] = []
    stop = k
    while stop:
        start = best[stop][2]
        segments.insert(0, tuple(range(start, stop)))
        stop = start
    return tuple(segments)


def fewest_segments(stages: int, begins: Sequence[bool] | None = None) -> Segments:
    """The grouping with a new segment only where a stage must start one.

    Args:
        stages: their number K.
        begins: K, whether the stage must start a segment.
    """
    forced = [False] * stages if begins is None else list(begins)
    bounds = [0, *(k for k in range(1, stages) if forced[k]), stages]
    return tuple(tuple(range(start, stop)) for start, stop in itertools.pairwise(bounds))


def share_replicas(load_ms: np.ndarray, replicas: int) -> np.ndarray:
    """Assigns replicas so that the maximum load per replica is smallest.

    Each replica goes to the segment with the highest load per replica at that moment, which is optimal for the maximum
    of load / replicas.

    Args:
        load_ms: (S,) >= 0, of each segment.
        replicas: at least S.

    Returns:
        (S,) int, each at least 1.
    """
    counts = np.ones(len(load_ms), dtype=np.int64)
    for _ in range(replicas - len(load_ms)):
        counts[int(np.argmax(load_ms / counts))] += 1
    return counts


def _autoscaling(replicas: int) -> dict[str, Any]:
    return {
        "min_replicas": 1,
        "initial_replicas": replicas,
        "max_replicas": 2 * replicas,
        "target_ongoing_requests": 2,
    }
