"""The fewest replicas that answer a stream of requests within a time, by simulation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cascade.errors import InfeasibleTarget
from cascade.planning.grouping import Segments, Transport
from cascade.planning.simulation.deployment import Deployment, StageTimes
from cascade.planning.simulation.outcome import Outcome
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes
from cascade.planning.simulation.simulate import simulate, simulate_in_time

__all__ = ["LatencyPlan", "LatencyTarget", "plan_for_latency"]

MOST_UTILISATION = 0.98
STEP = 1.5
MOST_MULTIPLE = 64.0
"""A search ends where each replica has so small a part of the load that further ones change nothing."""

IDLE_REQUESTS = 2000
CHECK_SEED = 1


@dataclass(frozen=True, eq=False)
class LatencyTarget:
    """What the replicas must reach.

    Attributes:
        requests: that come.
        p99_ms: longest time of 99 of 100 requests, > 0.
    """

    requests: Requests
    p99_ms: float


@dataclass(frozen=True, eq=False)
class LatencyPlan:
    """The fewest replicas found for a target.

    Attributes:
        segments: indices of the stages of each.
        replicas: of each segment.
        outcome: of a simulation with other random numbers than those of the search.
        simulations: that were run.
    """

    segments: Segments
    replicas: tuple[int, ...]
    outcome: Outcome
    simulations: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"replicas": list(self.replicas), "simulations": self.simulations, **self.outcome.to_dict()}


def plan_for_latency(
    stages: Sequence[StageTimes],
    routes: Routes,
    groupings: Sequence[Segments],
    transport: Transport,
    target: LatencyTarget,
    progress: Callable[[str], None] = lambda _: None,
) -> LatencyPlan:
    """Searches the replicas of each grouping, and returns the plan with the fewest of them.

    The load of each segment in full batches bounds its replicas from below. The search raises all of them in
    proportion until the target is met, and then lowers those of one segment after the other, the last one first. All
    simulations of a search have the same requests, so that more replicas are seldom slower.

    Args:
        stages: times of the K stages.
        routes: of rows through them.
        groupings: at least one; the first one wins among equals.
        transport: times between processes.
        target: what to reach.
        progress: is called with a line before each simulation.

    Raises:
        InfeasibleTarget: no number of replicas reaches it.
    """
    deployments = [Deployment(stages, segments, [1] * len(segments), transport) for segments in groupings]
    searches = [_Search(deployment, routes, target, progress) for deployment in deployments]
    found = [plan for search in searches if (plan := search.run()) is not None]
    if not found:
        raise _infeasible(searches, target)
    return min(found, key=lambda plan: sum(plan.replicas))


@dataclass(eq=False)
class _Search:
    """The search for one grouping; ``deployment`` has one replica per segment."""

    deployment: Deployment
    routes: Routes
    target: LatencyTarget
    progress: Callable[[str], None]
    seen: dict[tuple[int, ...], bool] = field(default_factory=dict)
    idle_p99_ms: float = 0.0
    most: tuple[int, ...] = ()

    @property
    def load(self) -> np.ndarray:
        """(S,) replicas that are busy all the time, in full batches."""
        mean = self.routes.work.mean(axis=0)
        row_ms = [
            sum(mean[k] * self.deployment.stages[k].least_row_ms for k in segment)
            for segment in self.deployment.segments
        ]
        requests = self.target.requests
        row_ms[0] += self.deployment.transport.request_ms * len(requests) / int(requests.rows.sum())
        return requests.rows_per_s * np.array(row_ms) / 1e3

    def run(self) -> LatencyPlan | None:
        """``None`` if the target cannot be met."""
        self.idle_p99_ms = self._idle_p99_ms()
        if self.idle_p99_ms > self.target.p99_ms:
            return None
        counts = self._proportional()
        if counts is None:
            return None
        for segment in reversed(range(len(counts))):
            counts = self._lowered(counts, segment)
        return self._checked(counts)

    def _idle_p99_ms(self) -> float:
        """Without load."""
        requests = self.target.requests
        longest = float(sum(stage.call_ms[1] for stage in self.deployment.stages))
        size = int(np.percentile(requests.rows, 50))
        idle = Requests.at_rate(1e3 * size / (200 * size * longest + 1e3), IDLE_REQUESTS, size, cv=0.0)
        return simulate(self.deployment, self.routes, idle).latency_percentile(99)

    def _at(self, multiple: float) -> tuple[int, ...]:
        return tuple(np.maximum(1, np.ceil(self.load * multiple - 1e-9)).astype(int).tolist())

    def _proportional(self) -> tuple[int, ...] | None:
        """The smallest multiple of the load that meets the target, between two that have the same replicas."""
        low, high = 1.0, 1 / MOST_UTILISATION
        while not self._meets(self._at(high)):
            low, high = high, high * STEP
            if high > MOST_MULTIPLE:
                self.most = self._at(low)
                return None
        for _ in range(5):
            middle = (low + high) / 2
            if self._at(middle) in (self._at(low), self._at(high)):
                break
            low, high = (low, middle) if self._meets(self._at(middle)) else (middle, high)
        return self._at(high)

    def _lowered(self, counts: tuple[int, ...], segment: int) -> tuple[int, ...]:
        def with_count(count: int) -> tuple[int, ...]:
            return (*counts[:segment], count, *counts[segment + 1 :])

        low, high = self._at(1.0)[segment], counts[segment]
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._meets(with_count(middle)) else (middle + 1, high)
        return with_count(high)

    def _checked(self, counts: tuple[int, ...]) -> LatencyPlan:
        """Simulated anew, with other rows; a plan that just met the target gets more replicas."""
        while (outcome := self._simulate(counts, CHECK_SEED)) is None:
            counts = tuple(count + max(1, count // 50) for count in counts)
        return LatencyPlan(self.deployment.segments, counts, outcome, len(self.seen) + 1)

    def _meets(self, counts: tuple[int, ...]) -> bool:
        if counts not in self.seen:
            self.seen[counts] = self._simulate(counts, 0) is not None
        return self.seen[counts]

    def _simulate(self, counts: tuple[int, ...], seed: int) -> Outcome | None:
        """``None`` if the requests are not answered in time, or the queues grow."""
        self.progress(f"simulating {' + '.join(f'{count:,}' for count in counts)} replicas")
        deployment = replace(self.deployment, replicas=counts)
        found = simulate_in_time(deployment, self.routes, self.target.requests, self.target.p99_ms, seed)
        return found if found is not None and found.keeps_up else None


def _infeasible(searches: Sequence[_Search], target: LatencyTarget) -> InfeasibleTarget:
    least = min(search.idle_p99_ms for search in searches)
    if least > target.p99_ms:
        return InfeasibleTarget(
            f"a p99 of {target.p99_ms:g} ms cannot be reached with any number of replicas: without any load it is "
            f"{least:.3g} ms, the time of the rows that reach the expensive stages; allow more time, or choose a "
            "cheaper policy",
            least,
        )
    most = max(sum(search.most) for search in searches)
    return InfeasibleTarget(
        f"a p99 of {target.p99_ms:g} ms is not reached with {most:,} replicas, {MOST_MULTIPLE:g} times the load: too "
        f"many requests come at the same moment; without load it is {least:.3g} ms",
        None,
    )
