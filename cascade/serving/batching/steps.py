"""Steps of a segment: between two stages of one process, rows of several batches may be gathered.

A stage with a high cost per call is better called seldom, with many rows. So the stages of a segment are cut into steps
before such a stage, and rows that come to it from many batches are gathered, up to the size with the lowest cost per
row, as long as earlier steps have rows to run.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.routers import Evidence

__all__ = ["Run", "SegmentSteps", "Step", "Steps", "single_step"]

Run = Callable[[np.ndarray, Policy, Evidence | None, int | None], Answers]
"""Runs stages on a batch, as :meth:`Segment.run <cascade.engine.Segment.run>` does."""


@dataclass(frozen=True)
class Step:
    """Consecutive stages of a segment.

    Attributes:
        run: runs them on a batch.
        target_rows: rows that are gathered for them, as long as earlier steps have rows to run.
        max_wait_s: longest time that rows are gathered: the time of one call, so that no row waits longer than it would
            for the call before its own.
        last_stage: index in the cascade of their last stage that runs; ``None`` if none does.
    """

    run: Run
    target_rows: int = 1
    max_wait_s: float = 0.0
    last_stage: int | None = None


Steps = Callable[[Policy], Sequence[Step]]
"""The steps of a segment under a policy, at least one."""


def single_step(run: Run) -> Steps:
    """A segment whose stages run one after the other, without gathering."""
    steps = (Step(run),)
    return lambda _: steps


class SegmentSteps:
    """Cuts a segment into steps, by the cost curves of a policy.

    Args:
        segment: of at least one stage.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._cached = functools.lru_cache(maxsize=16)(self._cut)

    def __call__(self, policy: Policy) -> tuple[Step, ...]:
        """The steps of the segment under a policy, at least one."""
        return self._cached(policy)

    def _cut(self, policy: Policy) -> tuple[Step, ...]:
        first, stages = self._segment.first, len(self._segment.stages)
        running = [k for k in range(first, first + stages) if policy.runs[k]]
        starts = [first, *(k for k in running[1:] if policy.curves and (curve := policy.curves[k]) and curve.gathers)]
        return tuple(
            self._step(policy, start, stop) for start, stop in zip(starts, [*starts[1:], first + stages], strict=True)
        )

    def _step(self, policy: Policy, start: int, stop: int) -> Step:
        run = self._segment.part(start, stop).run
        last_stage = max((k for k in range(start, stop) if policy.runs[k]), default=None)
        curve = policy.curves[start] if policy.curves else None
        if curve is None:
            return Step(run, last_stage=last_stage)
        return Step(run, curve.best_rows, float(curve.call_ms(1)) / 1e3, last_stage)
