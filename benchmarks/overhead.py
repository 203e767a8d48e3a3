"""The engine's overhead: the cascade's time against that of its stages alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cascade.backends.backend import Backend
from cascade.benchmarks.workload import Batch, Workload
from cascade.cascade import Cascade, last_stage_alone
from cascade.prediction import Prediction

__all__ = ["EngineTimes", "engine_overhead", "measure_engine"]

CHUNK_BATCHES = 8
"""Cascade and stages take turns after this many batches: enough for warm caches, and few enough that a change of the
machine's speed affects both."""


@dataclass(frozen=True)
class EngineTimes:
    """Times in one thread, of the same batches.

    Attributes:
        rows: number of rows that the cascade answered, and each stage too.
        ms_per_row: of the cascade.
        stage_ms_per_row: by stage name, of the stage alone on all rows.
        reached_share: by stage name, share of the rows that reached it in the cascade, in [0, 1].
        overhead: see :func:`engine_overhead`.
        engine_only: time of the cascade over that of the stages on exactly the arrays that they got in the cascade: the
            part of ``overhead`` that does not come from the smaller batches of later stages.
        biggest_ratio: time of the last stage alone, at its own best batch size, over time of the cascade; above 1 the
            cascade is faster.
    """

    rows: int
    ms_per_row: float
    stage_ms_per_row: dict[str, float]
    reached_share: dict[str, float]
    overhead: float
    engine_only: float
    biggest_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dict(vars(self))


def engine_overhead(cascade_time: float, stage_time: Sequence[float], reached_share: Sequence[float]) -> float:
    """Time of the cascade over that of an engine that costs nothing.

    The ideal is sum_k t_k r_k, with t_k the time per row of stage k alone, at the batch size that was sent to the
    cascade, and r_k the share of rows that reached it. Later stages get smaller batches than that, and the time that
    this costs them counts as overhead too.

    Args:
        cascade_time: per row, in the unit of ``stage_time``.
        stage_time: (K,) per row.
        reached_share: (K,) in [0, 1].

    Returns:
        At least about 1; 1.05 means that 5 % were added.
    """
    return float(cascade_time / np.dot(stage_time, reached_share))


@dataclass
class _Clock:
    """Adds up the seconds of calls."""

    seconds: float = 0.0

    def time(self, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = call()
        self.seconds += time.perf_counter() - begin
        return result


@dataclass
class _Recorder:
    """A model that records the arrays of its calls."""

    model: Backend
    seen: list[np.ndarray] = field(default_factory=list)

    def predict(self, rows: np.ndarray) -> Prediction:
        self.seen.append(rows)
        return self.model.predict(rows)


class _Race:
    """Cascade and stages, chunk by chunk."""

    def __init__(self, cascade: Cascade) -> None:
        self.recorded = [_Recorder(stage.backend) for stage in cascade.stages]
        stages = [replace(stage, backend=recorded) for stage, recorded in zip(cascade.stages, self.recorded)]
        self.observed = Cascade(stages, cascade.policy, cascade.rows)
        self.stages = cascade.stages
        self.last_alone = last_stage_alone(cascade)
        self.rows = 0
        self.reached = np.zeros(len(self.stages), dtype=np.int64)
        self.whole, self.parts = _Clock(), _Clock()
        self.alone = [_Clock() for _ in self.stages]
        self.last = _Clock()

    def run(self, chunk: Sequence[Batch]) -> None:
        for batch in chunk:
            self.whole.time(partial(self.observed.predict, batch.rows))
            self.rows += len(batch.rows)
        for batch in chunk:
            self.last.time(partial(self.last_alone.predict, batch.rows))
        for k, (stage, clock, recorded) in enumerate(zip(self.stages, self.alone, self.recorded)):
            for batch in chunk:
                clock.time(partial(stage.predict, batch.rows))
            for rows in recorded.seen:
                self.parts.time(partial(stage.predict, rows))
                self.reached[k] += len(rows)
            recorded.seen.clear()

    def times(self) -> EngineTimes:
        names = [stage.name for stage in self.stages]
        whole = self.whole.seconds / self.rows * 1e3
        alone = [clock.seconds / self.rows * 1e3 for clock in self.alone]
        share = (self.reached / self.rows).tolist()
        return EngineTimes(
            rows=self.rows,
            ms_per_row=whole,
            stage_ms_per_row=dict(zip(names, alone)),
            reached_share=dict(zip(names, share)),
            overhead=engine_overhead(whole, alone, share),
            engine_only=self.whole.seconds / self.parts.seconds,
            biggest_ratio=self.last.seconds / self.whole.seconds,
        )


def measure_engine(cascade: Cascade, workload: Workload, seconds: float) -> EngineTimes:
    """Times a cascade and each of its stages alone on the same batches, taking turns.

    Args:
        cascade: to measure.
        workload: its batches are used in order, in whole chunks, from the first on.
        seconds: least time; the chunk in which it passes is the last. A pass before it warms up and is not counted.
    """
    chunks = [workload.batches[i : i + CHUNK_BATCHES] for i in range(0, len(workload.batches), CHUNK_BATCHES)]
    _Race(cascade).run(chunks[0])
    race = _Race(cascade)
    deadline = time.perf_counter() + seconds
    turn = 0
    while not turn or time.perf_counter() < deadline:
        race.run(chunks[turn % len(chunks)])
        turn += 1
    return race.times()
