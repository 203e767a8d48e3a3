"""The simulation: arrivals and the ends of micro-batches, in the order of their times."""

import heapq
import math
import random
import time
from collections.abc import Sequence

import numpy as np

from cascade.planning.simulation.deployment import Deployment, StageTimes
from cascade.planning.simulation.outcome import WARM_UP, Outcome, SegmentOutcome
from cascade.planning.simulation.processors import Processors
from cascade.planning.simulation.replica import Call, Replica, Step
from cascade.planning.simulation.requests import Requests
from cascade.planning.simulation.routes import Routes

__all__ = ["simulate", "simulate_in_time"]

LATE_SHARE = 0.01
END, ARRIVAL = 0, 1
"""What happens to a replica: its micro-batch ends, or a request comes."""


def simulate(deployment: Deployment, routes: Routes, requests: Requests, seed: int = 0) -> Outcome:
    """Simulates a served cascade.

    A request comes to a random gateway, as connections do. A replica that is free takes all rows that wait, up to a
    full batch; rows that it accepts are answered when the batch ends, and the others go on as one call to the replica
    with fewer rows of two random ones, as Ray Serve's router does. No request is refused or dropped.

    Args:
        deployment: the served cascade.
        routes: of rows through the same stages; each request's rows are drawn from them.
        requests: that come.
        seed: of the routes and of the choice of replicas.

    Raises:
        ValueError: the routes are not of the deployment's stages.
    """
    begin = time.perf_counter()
    simulation = _Simulation(deployment, routes, requests, seed)
    simulation.run()
    return simulation.outcome(time.perf_counter() - begin)


def simulate_in_time(
    deployment: Deployment, routes: Routes, requests: Requests, p99_ms: float, seed: int = 0
) -> Outcome | None:
    """Simulates, and gives up where the p99 of the latency is sure to be higher.

    Args:
        deployment: see :func:`simulate`, like the others.
        routes: see there.
        requests: see there.
        p99_ms: > 0.
        seed: see there.

    Returns:
        ``None`` if it is.
    """
    begin = time.perf_counter()
    simulation = _Simulation(deployment, routes, requests, seed)
    simulation.late_ms = p99_ms
    try:
        simulation.run()
    except _TooLateError:
        return None
    found = simulation.outcome(time.perf_counter() - begin)
    return found if found.latency_percentile(99) <= p99_ms else None


class _TooLateError(Exception):
    """More requests are late than may be."""


class _Simulation:
    def __init__(self, deployment: Deployment, routes: Routes, requests: Requests, seed: int) -> None:
        if routes.work.shape[1] != len(deployment.stages):
            raise ValueError(
                f"routes through {routes.work.shape[1]} stages, and a deployment of {len(deployment.stages)}"
            )
        self.deployment, self.requests = deployment, requests
        self.late_ms, self.may_be_late = math.inf, math.ceil(LATE_SHARE * (1 - WARM_UP) * len(requests))
        self.first_counted = int(WARM_UP * len(requests))
        self.random = random.Random(seed).random
        total = int(requests.rows.sum())
        work = routes.work[routes.sample(total, seed)]
        stages = work.shape[1]
        ran = work > 0
        # A row without any work is answered by the first stage.
        self.last_stage: list[int] = np.where(ran.any(axis=1), stages - 1 - ran[:, ::-1].argmax(axis=1), 0).tolist()
        whole = bool((work % 1 == 0).all())
        self.work: list[list[float]] = [column.tolist() for column in (work.astype(np.int64) if whole else work).T]
        self.call_ms = [_long_enough(times, work.max(initial=1.0)) for times in deployment.stages]
        self.request_of: list[int] = np.repeat(np.arange(len(requests)), requests.rows).tolist()
        self.first_row = np.append(0, np.cumsum(requests.rows)).tolist()
        self.arrival: list[float] = requests.arrival_ms.tolist()
        self.end = [math.nan] * len(requests)
        self.remaining: list[int] = requests.rows.tolist()
        self.replicas = self._replicas()
        # Of each segment: the call in which a row came, and when it began to wait.
        self.call_of: list[dict[int, Call]] = [{} for _ in deployment.segments]
        self.queued_at = [0.0] * total
        self.waited = [0.0] * len(deployment.segments)
        self.longest = [0] * len(deployment.segments)
        self.batches = [0] * len(deployment.segments)
        self.batched_rows = [0] * len(deployment.segments)
        self.max_calls = [deployment.calls_per_replica * count for count in deployment.replicas[1:]]
        # (time, number, of which replica or processors, its version, what happens, or the call that comes)
        self.events: list[tuple[float, int, Processors | Replica, int | Call]] = []
        self.number = 0
        self.now = 0.0
        self.next_request = 0
        # Of a closed loop: requests that the client has sent or is about to, and when it is done with them.
        self.asked = 0
        self.client_free = 0.0

    def _replicas(self) -> list[list[Replica]]:
        machine, shared = self.deployment.machine, list[Processors]()
        found: list[list[Replica]] = []
        placed = 0
        for segment, count in enumerate(self.deployment.replicas):
            cuts = self.deployment.steps(segment)
            steps = [_step(cut, self.deployment.stages, cut is cuts[-1]) for cut in cuts]
            found.append([])
            for _ in range(count):
                if machine is not None and placed % machine.replicas == 0:
                    shared.append(Processors(machine.processors, machine.others, machine.slowdown))
                processors = shared[-1] if shared else None
                found[-1].append(Replica(segment, steps, self.deployment.transport.batch_rows, processors))
                placed += 1
        return found

    def run(self) -> None:
        gateways = self.replicas[0]
        if self.requests.connections:
            for number in range(min(self.requests.connections, len(self.requests))):
                self._ask(gateways[number % len(gateways)])
            while self.events:
                self._next_event()
            return
        for moment in self.arrival:
            while self.events and self.events[0][0] <= moment:
                self._next_event()
            self.now = moment
            self._arrive(gateways[int(self.random() * len(gateways))])
        while self.events:
            self._next_event()

    def _ask(self, gateway: Replica) -> None:
        """The client of a closed loop sends the next request on a connection of a gateway, after those before it."""
        self.asked += 1
        if not self.requests.client_ms:
            self._arrive(gateway)
            return
        self.client_free = max(self.client_free, self.now) + self.requests.client_ms
        self._push(self.client_free, gateway, ARRIVAL)

    def _arrive(self, gateway: Replica) -> None:
        """The next request comes to a gateway."""
        request = self.next_request
        self.next_request += 1
        self.arrival[request] = self.now
        gateway.extra_ms += self.deployment.transport.request_ms
        self._enqueue(gateway, range(self.first_row[request], self.first_row[request + 1]))

    def _enqueue(self, replica: Replica, rows: Sequence[int]) -> None:
        for row in rows:
            self.queued_at[row] = self.now
        replica.waiting.extend(rows)
        if not replica.batch:
            self._start(replica)
        else:
            self.longest[replica.segment] = max(self.longest[replica.segment], len(replica.waiting))

    def _start(self, replica: Replica) -> None:
        """Runs the next micro-batch of a free replica, if rows wait."""
        rows = replica.take(self.now)
        if not rows:
            return
        segment = replica.segment
        if replica.step == 0:
            self.waited[segment] += len(rows) * self.now - sum(map(self.queued_at.__getitem__, rows))
            self.batches[segment] += 1
            self.batched_rows[segment] += len(rows)
        work_ms = replica.extra_ms + self.deployment.transport.batch_ms
        for stage in replica.steps[replica.step].stages:
            work_ms += _time(self.call_ms[stage], sum(map(self.work[stage].__getitem__, rows)))
        replica.batch, replica.extra_ms, replica.began = rows, 0.0, self.now
        if replica.processors is None:
            self._push(self.now + work_ms, replica, END)
        else:
            replica.processors.begin(self.now, work_ms, replica)
            self._push_end(replica.processors)

    def _push(self, moment: float, subject: Processors | Replica, detail: int | Call) -> None:
        self.number += 1
        heapq.heappush(self.events, (moment, self.number, subject, detail))

    def _push_end(self, processors: Processors) -> None:
        moment = processors.next_end()
        if moment is not None:
            self._push(moment, processors, processors.version)

    def _next_event(self) -> None:
        moment, _, subject, detail = heapq.heappop(self.events)
        if isinstance(subject, Processors):
            if detail != subject.version:
                return  # a job has begun or ended since
            self.now = moment
            replica: Replica = subject.end(moment)
            self._finish(replica)
            self._push_end(subject)
        elif isinstance(detail, Call):
            self.now = moment
            for row in detail.rows:
                self.call_of[subject.segment][row] = detail
            subject.extra_ms += self.deployment.transport.hop_ms / 2
            self._enqueue(subject, detail.rows)
        elif detail == ARRIVAL:
            self.now = moment
            self._arrive(subject)
        else:
            self.now = moment
            self._finish(subject)

    def _finish(self, replica: Replica) -> None:
        """A micro-batch ends: its rows are answered, or go on."""
        rows, index = replica.batch, replica.step
        replica.busy_ms += self.now - replica.began
        step = replica.steps[index]
        last = step.stages[-1]
        deferred = [row for row in rows if self.last_stage[row] > last]
        for row in rows:
            if self.last_stage[row] <= last:
                self._answer(replica, row)
        if deferred and not step.is_last:
            replica.gather(deferred, index + 1, self.now)
        elif deferred:
            replica.forwarding += deferred
            self._forward(replica)
        replica.batch = []  # not before: what comes meanwhile waits
        self._start(replica)

    def _forward(self, replica: Replica) -> None:
        """Sends rows to the next segment, while there is room for a call or a full batch waits."""
        most, segment = self.deployment.transport.batch_rows, replica.segment + 1
        others = self.replicas[segment]
        hop_ms = self.deployment.transport.hop_ms / 2
        while replica.forwarding and (replica.calls < self.max_calls[segment - 1] or len(replica.forwarding) >= most):
            call = Call(replica, replica.forwarding[:most])
            replica.forwarding = replica.forwarding[most:]
            replica.calls += 1
            replica.extra_ms += hop_ms
            one, other = (others[int(self.random() * len(others))] for _ in range(2))
            self._push(self.now + hop_ms, one if one.load <= other.load else other, call)

    def _answer(self, replica: Replica, row: int) -> None:
        """A row is answered; the answers of a call return with its last one."""
        if replica.segment:
            call = self.call_of[replica.segment].pop(row)
            call.remaining -= 1
            if not call.remaining:
                call.sender.calls -= 1
                for each in call.rows:
                    self._answer(call.sender, each)
                self._forward(call.sender)
            return
        request = self.request_of[row]
        self.remaining[request] -= 1
        if not self.remaining[request]:
            self.end[request] = self.now
            if self.now - self.arrival[request] > self.late_ms and request >= self.first_counted:
                self.may_be_late -= 1
                if self.may_be_late < 0:
                    raise _TooLateError
            if self.requests.connections and self.asked < len(self.requests):
                self._ask(replica)

    def outcome(self, wall_s: float) -> Outcome:
        begin, end = self.arrival[0], max(self.end)
        span = max(end - begin, 1e-9)
        segments = []
        for replicas, waited, longest, batches, rows in zip(
            self.replicas, self.waited, self.longest, self.batches, self.batched_rows, strict=True
        ):
            busy = [replica.busy_ms / span for replica in replicas]
            segments.append(
                SegmentOutcome(sum(busy) / len(busy), max(busy), waited / span, longest, rows / max(batches, 1))
            )
        offered = math.inf if self.requests.connections else self.requests.rows_per_s
        return Outcome(np.array(self.arrival), np.array(self.end), self.requests.rows, tuple(segments), offered, wall_s)


def _step(stages: tuple[int, ...], times: Sequence[StageTimes], is_last: bool) -> Step:
    first = times[stages[0]]
    return Step(stages, first.target_rows, first.max_wait_ms, is_last)


def _long_enough(times: StageTimes, most_work: float) -> list[float]:
    """Times of a call by rows of mean work, for micro-batches of rows with more work, too."""
    known = times.call_ms
    more = max(0, math.ceil((most_work - 1) * len(known)))
    per_row = known[-1] / (len(known) - 1)
    return [*known.tolist(), *(per_row * np.arange(len(known), len(known) + more)).tolist()]


def _time(call_ms: list[float], work: float) -> float:
    """Time of a call with this much work, in rows of mean work; interpolated."""
    whole = int(work)
    if whole == work:
        return call_ms[whole]
    return call_ms[whole] + (work - whole) * (call_ms[whole + 1] - call_ms[whole])
