"""Steps of a segment: between two stages of one process rows may wait for company.

A stage with a high cost per call is better asked seldom, about many rows. So the stages of a segment are cut into steps
before such a stage, and rows that come to it from many batches are gathered, up to the size at which a row costs it
least, as long as earlier steps have something to do.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy
from cascade.engine import Answers, Segment

__all__ = ["Run", "SegmentSteps", "Step"]

Run = Callable[[np.ndarray, Policy, np.ndarray | None], Answers]


@dataclass(frozen=True)
class Step:
    """Some consecutive stages of a segment.

    Attributes:
        run: asks them about a batch.
        rows: that are gathered for them, as long as earlier steps have something to do.
        wait_s: most time that rows are gathered: that of one call, so that none waits longer than it would for the call
            before its own.
        last: index of their last stage in the cascade that runs; ``None`` if none of them does.
    """

    run: Run
    rows: int = 1
    wait_s: float = 0.0
    last: int | None = None


class SegmentSteps:
    """Cuts a segment into steps, by the cost curves of a policy.

    Args:
        segment: of at least one stage.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._known = functools.lru_cache(maxsize=16)(self._cut)

    def __call__(self, policy: Policy) -> tuple[Step, ...]:
        """The steps of the segment under a policy, at least one."""
        return self._known(policy)

    def _cut(self, policy: Policy) -> tuple[Step, ...]:
        first, stages = self._segment.first, len(self._segment.stages)
        running = [k for k in range(first, first + stages) if policy.runs[k]]
        starts = [first, *(k for k in running[1:] if policy.curves and (curve := policy.curves[k]) and curve.gathers)]
        return tuple(
            self._step(policy, start, stop) for start, stop in zip(starts, [*starts[1:], first + stages], strict=True)
        )

    def _step(self, policy: Policy, start: int, stop: int) -> Step:
        run = self._segment.part(start, stop).run
        last = max((k for k in range(start, stop) if policy.runs[k]), default=None)
        curve = policy.curves[start] if policy.curves else None
        if curve is None:
            return Step(run, last=last)
        return Step(run, curve.best_rows, float(curve.call_ms(1)) / 1e3, last)
