"""What the engine adds to its models: the cascade's time against that of its stages alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cascade.benchmarks.workload import Batch, Workload
from cascade.cascade import Cascade

__all__ = ["EngineTimes", "engine_overhead", "measure_engine"]

CHUNK_BATCHES = 8
"""Cascade and stages take turns after this many batches: seldom enough for warm caches, often enough for a machine
whose speed changes."""


@dataclass(frozen=True)
class EngineTimes:
    """Times in one thread, of the same batches.

    Attributes:
        rows: number of rows that the cascade answered, and each stage too.
        ms_per_row: of the cascade.
        stage_ms_per_row: by stage name, of the stage alone on all rows.
        reached_share: by stage name, share of the rows that came to it in the cascade, in [0, 1].
        overhead: see :func:`engine_overhead`.
        engine_only: time of the cascade over that of the stages on exactly the arrays that the cascade gave them; what
            is left of ``overhead`` when later stages' smaller batches are not held against the engine.
        biggest_ratio: time of the last stage alone over time of the cascade; above 1 the cascade is faster.
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

    The ideal is sum_k t_k r_k, with t_k the time a row of stage k alone, at the batch size that the cascade was sent,
    and r_k the share of rows that came to it. Later stages get smaller batches than that, so what they lose by it
    counts as overhead too.

    Args:
        cascade_time: of a row, in the unit of ``stage_time``.
        stage_time: (K,) of a row.
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
class _Race:
    """Cascade and stages, chunk by chunk."""

    cascade: Cascade
    rows: int = 0
    whole: _Clock = field(default_factory=_Clock)
    parts: _Clock = field(default_factory=_Clock)
    alone: list[_Clock] = field(default_factory=list)
    reached: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.alone = [_Clock() for _ in self.cascade.stages]
        self.reached = np.zeros(len(self.cascade.stages), dtype=np.int64)

    def run(self, chunk: Sequence[Batch]) -> None:
        answering = [self._run_cascade(batch.rows) for batch in chunk]
        for k, (stage, clock) in enumerate(zip(self.cascade.stages, self.alone)):
            for batch in chunk:
                clock.time(partial(stage.predict, batch.rows))
            for batch, answered in zip(chunk, answering):
                reached = np.ascontiguousarray(batch.rows[answered >= k])
                if len(reached):
                    self.parts.time(partial(stage.predict, reached))

    def _run_cascade(self, rows: np.ndarray) -> np.ndarray:
        """Returns (n,) int, the stage that answered each row."""
        answering: np.ndarray = self.whole.time(partial(self.cascade.predict, rows)).stage
        self.reached += (answering[:, None] >= np.arange(len(self.reached))).sum(axis=0)
        self.rows += len(rows)
        return answering

    def times(self) -> EngineTimes:
        names = [stage.name for stage in self.cascade.stages]
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
            biggest_ratio=alone[-1] / whole,
        )


def measure_engine(cascade: Cascade, workload: Workload, seconds: float) -> EngineTimes:
    """Times a cascade and each of its stages alone on the same batches, taking turns.

    Args:
        cascade: what is measured.
        workload: whose batches are taken in order, in whole chunks, from the first on.
        seconds: ends after the chunk in which this is over; a pass before it warms up and is not counted.
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
