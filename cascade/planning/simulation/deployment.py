"""What is simulated: stages in segments, their replicas, and the processors that these share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy, ScoreTable
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.planning.grouping import Segments, Transport

__all__ = ["Deployment", "Machine", "StageTimes"]


@dataclass(frozen=True)
class Machine:
    """Processors that replicas share: with more running replicas than processors, each runs as much slower.

    Attributes:
        processors: of a machine, > 0.
        replicas: of a machine, >= 1. The replicas of all segments are dealt out in order.
        others: other processes that run on it, such as a client or Ray, in the mean, >= 0. A running process gets an
            equal share of the processors.
        slowdown: how many times longer the work of a replica takes, in time of its processor, where replicas run on
            all processors, since these share memory and caches, >= 1.
    """

    processors: float
    replicas: int
    others: float = 0.0
    slowdown: float = 1.0


@dataclass(frozen=True, eq=False)
class StageTimes:
    """Times of the calls of a stage.

    Attributes:
        call_ms: (m,) time of 0, 1, ... rows in as many calls as are quickest.
        target_rows: rows that are gathered for the stage, while earlier ones of its process have rows to run.
        gathers: whether rows are gathered at all.
        max_wait_ms: for how long.
    """

    call_ms: np.ndarray
    target_rows: int
    gathers: bool
    max_wait_ms: float

    @classmethod
    def of_curve(cls, curve: CostCurve, most_rows: int, served: CostCurve | None) -> "StageTimes":
        """Times of a cost curve, gathered and split as in a served segment.

        Args:
            curve: of the stage here.
            most_rows: of a micro-batch.
            served: the stage's curve in the served policy, by which a segment gathers and splits; ``None`` if it has
                none: the segment then does neither.
        """
        if served is None:
            return cls(curve.call_ms(np.arange(most_rows + 2)), 1, False, 0.0)
        rows = np.arange(1, max(most_rows, served.best_rows) + 2)
        calls = np.array([served.calls(int(n)) for n in rows])
        times = np.append(0.0, calls * curve.call_ms(rows / calls))
        return cls(times, served.best_rows, served.gathers, float(served.call_ms(1)))

    @classmethod
    def constant(cls, row_ms: float, most_rows: int) -> "StageTimes":
        """A constant time per row, without gathering."""
        return cls(row_ms * np.arange(most_rows + 2), 1, False, 0.0)

    @classmethod
    def of_table(cls, table: ScoreTable, policy: Policy, most_rows: int) -> "list[StageTimes]":
        """Times of the K stages of a score table whose costs are times, see :meth:`Routes.of_table`."""
        constant = table.work.mean(axis=0)
        unknown = [None] * table.stages
        return [
            cls.constant(float(constant[k]), most_rows) if curve is None else cls.of_curve(curve, most_rows, served)
            for k, (curve, served) in enumerate(zip(table.curves or unknown, policy.curves or unknown, strict=True))
        ]

    @property
    def least_row_ms(self) -> float:
        """Time per row in the best micro-batch."""
        return float((self.call_ms[1:] / np.arange(1, len(self.call_ms))).min())


@dataclass(frozen=True, eq=False)
class Deployment:
    """A served cascade.

    Attributes:
        stages: times of the K stages.
        segments: indices of the stages of each segment, in order; the first one is the gateway.
        replicas: of each segment, >= 1.
        transport: half of ``hop_ms`` is processor time of the sender, the other half of the receiver; ``request_ms``
            is processor time of the gateway, ``batch_ms`` of each replica.
        calls_per_replica: calls of a replica under way to the next segment, for each of its replicas; further rows wait
            until there are enough for a full batch.
        machine: shared processors; ``None`` if each replica has its own.
    """

    stages: Sequence[StageTimes]
    segments: Segments
    replicas: Sequence[int]
    transport: Transport
    calls_per_replica: int = 2
    machine: Machine | None = None

    def steps(self, segment: int) -> list[tuple[int, ...]]:
        """The stages of a segment, cut before each but the first that gathers rows."""
        first, *others = self.segments[segment]
        steps: list[tuple[int, ...]] = [(first,)]
        for stage in others:
            steps = [*steps, (stage,)] if self.stages[stage].gathers else [*steps[:-1], (*steps[-1], stage)]
        return steps
