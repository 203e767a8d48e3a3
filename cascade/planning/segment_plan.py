"""A plan of segments: which stages share a process, and how many replicas each segment has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.planning.grouping import Segments, Transport, best_segments, fewest_segments, mean_answer_ms
from cascade.planning.stage_load import StageLoad

__all__ = ["SegmentPlan", "plan_of", "plan_segments", "share_replicas"]


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
    segment_ms = _segment_ms(segments, load, transport)
    if rate is None:
        counts = share_replicas(segment_ms, max(replicas or 0, len(segments)))
    else:
        counts = np.maximum(1, np.ceil(rate * segment_ms / 1000 / utilisation - 1e-9)).astype(np.int64)
    return plan_of(segments, counts.tolist(), load, transport, utilisation)


def plan_of(
    segments: Segments, replicas: Sequence[int], load: StageLoad, transport: Transport, utilisation: float
) -> SegmentPlan:
    """The plan of a grouping and its replicas; arguments as of :func:`plan_segments`."""
    segment_ms = _segment_ms(segments, load, transport)
    slowest_ms = float((segment_ms / np.array(replicas)).max())
    return SegmentPlan(
        segments=tuple(tuple(load.stage[k] for k in segment) for segment in segments),
        reach=tuple(float(load.reach[segment[0]]) for segment in segments),
        load_ms=tuple(segment_ms.tolist()),
        replicas=tuple(replicas),
        mean_answer_ms=mean_answer_ms(segments, load, transport),
        rows_per_s=1000 * utilisation / slowest_ms if slowest_ms else math.inf,
        utilisation=utilisation,
    )


def _segment_ms(segments: Segments, load: StageLoad, transport: Transport) -> np.ndarray:
    """(S,) time of each segment per row of the cascade, with its hop or request."""
    segment_ms = np.array([load.per_row_ms[list(segment)].sum() for segment in segments])
    hop_row_ms = transport.hop_ms / transport.batch_rows
    return np.asarray(segment_ms + np.array([transport.request_ms, *[hop_row_ms] * (len(segments) - 1)]))


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
