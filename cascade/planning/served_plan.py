"""The replicas of a cascade for a stream of requests and a p99, and those that its biggest model alone would need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration import Policy, ScoreTable, evaluate
from cascade.errors import InfeasibleTarget
from cascade.planning.grouping import Segments, Transport, best_segments, fewest_segments
from cascade.planning.latency_plan import LatencyPlan, LatencyTarget, plan_for_latency
from cascade.planning.simulation.deployment import StageTimes
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.stage_load import StageLoad

__all__ = ["ServedPlan", "enough_requests", "plan_served"]

LEAST_REQUESTS, MOST_REQUESTS = 20_000, 400_000
REQUESTS_PER_REPLICA = 60


@dataclass(frozen=True, eq=False)
class ServedPlan:
    """A cascade and its last stage alone, for the same target.

    Attributes:
        cascade: its plan.
        biggest: plan of the last stage alone; ``None`` if no number of replicas meets the target.
        biggest_problem: why it does not; empty if it does.
        accuracy: of the cascade on the score table; ``None`` without labels.
        biggest_accuracy: of the last stage.
    """

    cascade: LatencyPlan
    biggest: LatencyPlan | None
    biggest_problem: str
    accuracy: float | None
    biggest_accuracy: float | None

    @property
    def fewer(self) -> float | None:
        """Replicas of the biggest model alone over those of the cascade; ``None`` if it cannot meet the target."""
        return None if self.biggest is None else sum(self.biggest.replicas) / sum(self.cascade.replicas)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        biggest = {"problem": self.biggest_problem} if self.biggest is None else self.biggest.to_dict()
        return {
            "simulated": {**self.cascade.to_dict(), "accuracy": self.accuracy},
            "biggest_alone": {**biggest, "accuracy": self.biggest_accuracy},
            "times_fewer_replicas": self.fewer,
        }


def enough_requests(load: StageLoad, rows_per_s: float, request_rows: int) -> int:
    """Requests of a simulation, for a p99 that is steady and for some work at each replica."""
    replicas = rows_per_s * float(load.per_row_ms.sum()) / 1e3
    return int(np.clip(REQUESTS_PER_REPLICA * replicas / request_rows, LEAST_REQUESTS, MOST_REQUESTS))


def plan_served(
    table: ScoreTable,
    policy: Policy,
    transport: Transport,
    requests: Requests,
    p99_ms: float,
    begins: Sequence[bool] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ServedPlan:
    """Plans for a target, with the routes of the score table's rows.

    Three groupings are tried: with the least mean time to an answer, with as few processes as possible, and with the
    last stage in a process of its own.

    Args:
        table: of the policy's stages, with times as costs.
        policy: the operating point.
        transport: times between processes.
        requests: that come.
        p99_ms: longest time of 99 of 100 requests, > 0.
        begins: K, whether the stage must start a segment.
        progress: is called with a line before each simulation.

    Raises:
        InfeasibleTarget: no number of replicas of the cascade meets the target.
        ScoreTableError: the table is of other stages, or its costs are not in milliseconds.
    """
    load = StageLoad.measure(table, policy)
    stages = StageTimes.of_table(table, policy, transport.batch_rows)
    routes = Routes.of_table(table, policy)
    target = LatencyTarget(requests, p99_ms)
    forced = [False] * len(stages) if begins is None else list(begins)
    choices: list[Segments] = [
        best_segments(load, transport, forced),
        fewest_segments(len(stages), forced),
        fewest_segments(len(stages), [*forced[:-1], True]),
    ]
    cascade = plan_for_latency(stages, routes, list(dict.fromkeys(choices)), transport, target, progress)
    biggest, problem = None, ""
    try:
        alone = Routes.of_last_stage(table)
        biggest = plan_for_latency(stages[-1:], alone, [((0,),)], transport, target, progress)
    except InfeasibleTarget as error:
        problem = str(error)
    replay = evaluate(table, policy)
    return ServedPlan(cascade, biggest, problem, replay.accuracy, replay.last_stage_accuracy)
