"""The grouping of stages into segments."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.planning.stage_load import StageLoad

__all__ = ["Segments", "Transport", "best_segments", "fewest_segments", "mean_answer_ms"]

Segments = tuple[tuple[int, ...], ...]
"""Indices of the stages of each segment, in order."""


@dataclass(frozen=True)
class Transport:
    """The times of moving rows between processes.

    Attributes:
        hop_ms: of one call from a segment to the next, of any size, in milliseconds.
        batch_rows: rows of a full batch.
        request_ms: of a gateway for reading and answering a request of one row, in milliseconds.
        batch_ms: of a micro-batch besides its stages: handing it to a thread and back, and its bookkeeping; simulated
            only.
    """

    hop_ms: float
    batch_rows: int
    request_ms: float = 0.0
    batch_ms: float = 0.0


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
