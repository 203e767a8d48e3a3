"""Measurement of cost curves: the time of a stage's calls against the rows in them."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.policies.policy import Policy
from cascade.engine import Segment
from cascade.machine.description import machine_line
from cascade.machine.processor_time import others_share
from cascade.stage import Stage

__all__ = ["LARGEST_CALL", "SECONDS_A_STAGE", "MeasuredCurves", "measure_curves", "use_threads"]

LARGEST_CALL = 1024
SECONDS_A_STAGE = 3.0
LEAST_REPEATS = 3
MOST_REPEATS = 25
MOST_SPREAD = 0.25  # of repeated times, median over all sizes
MOST_OTHERS = 0.1  # of the processors


@dataclass(frozen=True, eq=False)
class MeasuredCurves:
    """Cost curves of K stages on this machine.

    Attributes:
        curves: K.
        machine: processor, cores and threads.
        load: one-minute load average at the start; ``None`` if the system has none.
        others: share of the processors that other processes used meanwhile, in [0, 1]; ``None`` if unknown.
        spread: interquartile range of repeated times over their median; median over all stages and sizes.
    """

    curves: tuple[CostCurve, ...]
    machine: str
    load: float | None
    others: float | None
    spread: float

    @property
    def note(self) -> str:
        """Machine and its state, in one line."""
        parts = [self.machine, f"spread of times {self.spread:.0%}"]
        parts += [] if self.others is None else [f"other processes {self.others:.0%} of the processors"]
        parts += [] if self.load is None else [f"load average {self.load:.2g}"]
        return ", ".join(parts)

    @property
    def warning(self) -> str | None:
        """A sentence if the machine was too busy to trust the times, ``None`` otherwise."""
        reasons = []
        if self.spread > MOST_SPREAD:
            reasons.append(f"repeated times differ by {self.spread:.0%} (at most {MOST_SPREAD:.0%} is usual)")
        if self.others is not None and self.others > MOST_OTHERS:
            reasons.append(f"other processes used {self.others:.0%} of the processors")
        if not reasons:
            return None
        return f"the times were measured on a busy machine: {' and '.join(reasons)}; measure again when it is quiet"


@dataclass(eq=False)
class _Timed:
    """One stage and the times of its calls.

    Attributes:
        seconds: times of the calls, by number of rows.
        spent: their sum. Warm-up calls do not count, since the first one may load and compile.
    """

    stage: Stage
    seconds: dict[int, list[float]] = field(default_factory=dict)
    spent: float = 0.0

    def __post_init__(self) -> None:
        self._segment = Segment([self.stage])
        self._policy = Policy.from_thresholds((self.stage.name,), np.zeros(0))

    def call(self, rows: np.ndarray, counts: bool = True) -> None:
        begin = time.perf_counter()
        self._segment.run(rows, self._policy)
        seconds = time.perf_counter() - begin
        if counts:
            self.spent += seconds
            self.seconds.setdefault(len(rows), []).append(seconds)

    def expected(self, size: int) -> float:
        """Expected seconds of a call, from the nearest smaller size."""
        known = max((other for other in self.seconds if other <= size), default=0)
        return float(np.median(self.seconds[known])) * size / known if known else 0.0

    def curve(self) -> CostCurve:
        rows = np.array(sorted(self.seconds))
        times = [np.array(self.seconds[size]) * 1e3 for size in rows.tolist()]
        middle = np.array([np.median(ms) for ms in times])
        quartiles = np.array([np.subtract(*np.quantile(ms, [0.75, 0.25])) for ms in times])
        return CostCurve.fit(rows, middle, quartiles / np.maximum(middle, 1e-9))


def measure_curves(
    stages: Sequence[Stage],
    rows: np.ndarray,
    *,
    largest: int = LARGEST_CALL,
    seconds: float = SECONDS_A_STAGE,
    seed: int = 0,
    on_call: Callable[[str, float], None] = lambda stage, share: None,
) -> MeasuredCurves:
    """Times calls of 1, 2, 4, ... rows through the engine, alternating between stages, on rows drawn for each call.

    Repeated calls of one stage on the same rows hit the processor's caches, and look up to twice as fast as calls in a
    cascade.

    Args:
        stages: K stages, with the number of threads that will serve them.
        rows: (n, ...), n >= 1.
        largest: maximum rows per call, >= 1; fewer if a few such calls of a stage would take too long.
        seconds: time for each stage, besides one warm-up call of each size; every stage is called at least once with
            one row.
        seed: of the draws.
        on_call: called with the stage's name and the share of its time used, in [0, 1], after each call.
    """
    random = np.random.default_rng(seed)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    timed = [_Timed(stage) for stage in stages]
    sizes = np.unique(np.minimum(2 ** np.arange(int(np.ceil(np.log2(largest))) + 1), largest)).tolist()
    with others_share() as others:
        for turn in range(MOST_REPEATS + 1):
            # The first turn warms up and finds the largest size that fits; later turns shuffle the sizes.
            order = sizes if turn == 0 else random.permutation(sizes).tolist()
            for size in order:
                for each in timed:
                    if turn == 0 and _fits(each, size, seconds):
                        each.call(_draw(rows, size, random), counts=False)
                    if _wanted(each, size, seconds):
                        each.call(_draw(rows, size, random))
                        on_call(each.stage.name, min(each.spent / seconds, 1.0))
    curves = tuple(each.curve() for each in timed)
    spread = float(np.median(np.concatenate([curve.spread for curve in curves])))
    return MeasuredCurves(curves, machine_line(), load, others.value, spread)


def use_threads(threads: int) -> None:
    """Sets the number of threads of all numerical libraries in this process, as in the process that will serve."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _fits(timed: _Timed, size: int, seconds: float) -> bool:
    """Whether there is time for a few calls of this size."""
    return size == 1 or timed.spent + 2 * LEAST_REPEATS * timed.expected(size) <= seconds


def _wanted(timed: _Timed, size: int, seconds: float) -> bool:
    repeats = len(timed.seconds.get(size, ()))
    if repeats == 0:
        return _fits(timed, size, seconds)
    return timed.spent + timed.expected(size) <= seconds or (repeats < LEAST_REPEATS and size > 1)


def _draw(rows: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(rows[random.integers(0, len(rows), size)])
