"""The audit of a gateway: what it answers is held against the last stage, off the way of the requests."""

import asyncio
import logging
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade.calibration import Policy
from cascade.calibration.monitoring.monitor import Monitor, WatchedRate
from cascade.config import AuditConfig
from cascade.engine import PENDING, Answers
from cascade.serving.audit.audited_row import Draw, DrawnRow
from cascade.serving.telemetry.observations import AuditEstimate, Observations

__all__ = ["Auditor"]

AskLast = Callable[[np.ndarray, Policy, np.ndarray | None, float], Awaitable[Answers]]

# Rows are counted, and drawn rows looked at, so often.
PERIOD_S = 0.1
# WatchedRate at a time; while a policy is replaced, or several share the load, there are a few.
MOST_POLICIES = 16

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Watch:
    """What is known of one policy, and what has come in since it was last looked at.

    Attributes:
        monitor: of the policy.
        straight: the policy that sends every row straight to the last stage.
        decided: bytes of arrays of stages, of the gateway's batches.
        returned: bytes of arrays of stages, of rows that came back.
        repeated: of the rows that came back from the last stage, those whose answer was known before.
        counts: of drawn rows, by what became of them.
        alarms: those that have been told.
    """

    monitor: Monitor
    straight: Policy
    decided: list[bytes] = field(default_factory=list)
    returned: list[bytes] = field(default_factory=list)
    repeated: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("drawn", "audited", "dropped", "lost"), 0))
    alarms: set[WatchedRate] = field(default_factory=set)


class Auditor:
    """Draws a share of the rows, asks the last stage about them when there is time, and raises the alarm.

    A row is drawn when it comes, before anything is known of it, and drawn rows are looked at in the order in which
    they came. So neither the answer, nor how long it took, nor whether the queue is full has a part in which rows are
    looked at, and their agreement estimates that of all rows without bias. A drawn row that the last stage itself
    answered agrees without being asked about.

    The risk of a false alarm, ``audit.delta``, is that of all gateways, of all policies that they ever watch, and of
    all their starts together (alpha spending). Of G gateways, the starts 1 to G have 1/2 of it, the next G have 1/6,
    and so on: 1 / (g (g + 1)) for the g-th G of them, whose sum is 1. The v-th policy that a gateway watches has
    1 / (v (v + 1)) of what its gateway has. More starts and policies delay an alarm by the logarithm of their number.

    Requests only count: a draw that misses costs a subtraction, a batch one copy of its stages. Everything else happens
    in a task of its own, a few times a second.

    Args:
        audit: the settings.
        stages: number of the cascade's stages.
        first_behind: index of the first stage behind the gateway's segment; the number of stages if there is none.
        gateways: that share the risk of a false alarm.
        start: number of this start of a gateway, 1 for the first, among all that share the risk.
        timeout_s: for the last stage's answer.
        seed: of the draws; random by default.
    """

    def __init__(
        self,
        audit: AuditConfig,
        stages: int,
        first_behind: int,
        gateways: int = 1,
        timeout_s: float = 30.0,
        seed: int | None = None,
        start: int = 1,
    ) -> None:
        self._audit = audit
        self._last = stages - 1
        self._first_behind = first_behind
        self._gateways = gateways
        self._start = start
        self._policies_seen = 0
        self._timeout_s = timeout_s
        self._rng = np.random.default_rng(seed)
        self._name = secrets.token_hex(4)
        self._watches: OrderedDict[str, _Watch] = OrderedDict()
        self._watched_policy: Policy | None = None
        self._queue: deque[DrawnRow] = deque()
        self._rows_to_next = self._gap()
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, ask_last: AskLast, is_idle: Callable[[], bool]) -> None:
        """Begins to work, in the running event loop.

        Args:
            ask_last: sends rows (n, ...) with a policy and evidence on to the last stage; seconds until it is too late.
            is_idle: whether no requests wait.
        """
        self._ask_last, self._is_idle = ask_last, is_idle
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Ends the work."""
        if self._task is not None:
            self._task.cancel()

    def draw(self, rows: np.ndarray, policy: Policy) -> Draw | None:
        """Told of every request: decides which of its rows are looked at.

        Args:
            rows: (n, ...).
            policy: that routes them.

        Returns:
            The drawn rows, which must be settled or lost; ``None`` if there are none, as mostly.
        """
        if policy is not self._watched_policy:
            self._watch(policy)
        self._rows_to_next -= len(rows)
        return None if self._rows_to_next > 0 else self._draw(rows, policy)

    def decided(self, policy: Policy, answers: Answers) -> None:
        """See :class:`~cascade.serving.batching.observer.Observer`."""
        watch = self._watches.get(policy.version)
        if watch is not None:  # the audit's own rows are not traffic
            watch.decided.append(answers.stage.tobytes())

    def returned(self, policy: Policy, answers: Answers, word: np.ndarray) -> None:
        """See :class:`~cascade.serving.batching.observer.Observer`."""
        watch = self._watches.get(policy.version)
        if watch is not None:
            watch.returned.append(answers.stage.tobytes())
            watch.repeated += int(np.count_nonzero((answers.answer == word) & (answers.stage == self._last)))

    def describe(self, policy: Policy) -> dict[str, Any]:
        """The state, as plain values.

        Args:
            policy: in force.
        """
        self._watch(policy)
        self._count()
        return {
            "gateway": self._name,
            "gateways": self._gateways,
            "start": self._start,
            "share": self._audit.share,
            "policy_version": policy.version,
            "alarm": any(watch.monitor.alarms for watch in self._watches.values()),
            "waiting_rows": len(self._queue),
            "policies": {
                version: watch.monitor.to_dict() | {f"{name}_rows": count for name, count in watch.counts.items()}
                for version, watch in self._watches.items()
            },
        }

    def tell(self, policy: Policy, seen: Observations) -> None:
        """Notes the estimate and the alarms of a policy in force."""
        monitor = self._watch(policy).monitor
        self._count()
        found = monitor.to_dict()["agreement"]
        if found["rows"]:
            watched = monitor.agreement
            held_to = (None, None) if watched is None else (watched.test.low, watched.source)
            seen.audit = AuditEstimate(found["rate"], found["low"], found["high"], found["rows"], *held_to)
        seen.alarms = {" ".join(filter(None, (each.name, each.stage))): each.test.alarm for each in monitor.watched}

    def _watch(self, policy: Policy) -> _Watch:
        watch = self._watches.get(policy.version)
        if watch is None:
            audit = self._audit
            monitor = Monitor(
                policy, audit.delta, self._new_share(), self._first_behind, audit.least_agreement, audit.rate_tolerance
            )
            watch = self._watches[policy.version] = _Watch(monitor, _straight_to_the_last(policy))
            if len(self._watches) > MOST_POLICIES:
                self._watches.popitem(last=False)
        self._watched_policy = policy
        return watch

    def _new_share(self) -> float:
        """The part of the risk that one more policy has."""
        self._policies_seen += 1
        return _part(self._policies_seen) * _part(1 + (self._start - 1) // self._gateways) / self._gateways

    def _gap(self) -> float:
        """Rows from one drawn row to the next: each row is drawn independently with the same probability."""
        return float(self._rng.geometric(self._audit.share)) if self._audit.share else math.inf

    def _draw(self, rows: np.ndarray, policy: Policy) -> Draw | None:
        places = []
        while self._rows_to_next <= 0:
            places.append(int(len(rows) + self._rows_to_next - 1))
            self._rows_to_next += self._gap()
        counts = self._watch(policy).counts
        if len(self._queue) + len(places) > self._audit.max_queue_rows:
            counts["dropped"] += len(places)
            return None
        counts["drawn"] += len(places)
        draw = Draw(places, [DrawnRow(policy, rows[place : place + 1].copy()) for place in places])
        self._queue.extend(draw.rows)
        return draw

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                self._count()
                while (drawn := self._next()) and self._may_ask():
                    await self._look_at(drawn)
            except Exception:  # an audit that has ended would look like one that finds nothing
                logger.exception("the audit failed, and goes on")

    def _count(self) -> None:
        """Hands the monitors what came in."""
        for version, watch in self._watches.items():
            if watch.decided:
                counts = self._stage_counts(watch.decided)
                watch.monitor.add_decided(counts[1:], int(counts[0]))
            if watch.returned:
                watch.monitor.add_returned(self._stage_counts(watch.returned)[1:], watch.repeated)
                watch.repeated = 0
            self._tell_alarms(version, watch)

    def _stage_counts(self, parts: list[bytes]) -> np.ndarray:
        """(K + 1,) int: pending rows, then those of each stage; forgets what it counted."""
        stage = np.frombuffer(b"".join(parts), np.int64)
        parts.clear()
        return np.bincount(stage - PENDING, minlength=self._last + 2)

    def _tell_alarms(self, version: str, watch: _Watch) -> None:
        for each in watch.monitor.alarms:
            if each not in watch.alarms:
                watch.alarms.add(each)
                test = each.test
                logger.warning(
                    "audit alarm: %s%s of policy %s is %.4f after %d rows, and should be in [%.4f, %.4f] (%s)",
                    each.name.replace("_", " "),
                    "" if each.stage is None else f" of stage {each.stage}",
                    version,
                    test.successes / test.trials,
                    test.trials,
                    test.low,
                    test.high,
                    each.source,
                )

    def _next(self) -> list[DrawnRow]:
        """The oldest drawn rows that are settled, of one policy; the lost ones leave the queue."""
        found: list[DrawnRow] = []
        for row in tuple(self._queue):
            if not row.is_settled or len(found) == self._audit.max_batch_rows:
                break
            if row.lost:
                self._queue.remove(row)
                self._count_drawn(row, "lost")
            elif found and row.policy is not found[0].policy:
                break
            else:
                found.append(row)
        return found

    def _count_drawn(self, row: DrawnRow, what: str) -> None:
        watch = self._watches.get(row.policy.version)
        if watch is not None:
            watch.counts[what] += 1

    def _may_ask(self) -> bool:
        return self._is_idle() or (
            self._audit.busy_time_share > 0 and asyncio.get_running_loop().time() >= self._not_before
        )

    async def _look_at(self, drawn: list[DrawnRow]) -> None:
        """Asks about settled rows at the head of the queue, and takes them from it."""
        loop = asyncio.get_running_loop()
        watch = self._watches.get(drawn[0].policy.version)
        begin = loop.time()
        try:
            agrees = None if watch is None else await self._agreement(drawn, watch.straight)
        except Exception as error:
            agrees = None
            logger.debug("%d drawn rows could not be audited: %s", len(drawn), type(error).__name__)
        finally:
            for row in drawn:
                self._queue.remove(row)
        if self._audit.busy_time_share:
            self._not_before = loop.time() + (loop.time() - begin) * (1 / self._audit.busy_time_share - 1)
        for row in drawn:
            self._count_drawn(row, "lost" if agrees is None else "audited")
        if watch is not None and agrees is not None:
            watch.monitor.add_audited(np.array([row.stage for row in drawn]), agrees)
            self._tell_alarms(drawn[0].policy.version, watch)

    async def _agreement(self, drawn: list[DrawnRow], straight: Policy) -> np.ndarray:
        """(m,) bool, whether the last stage says what was answered."""
        agrees = np.ones(len(drawn), dtype=bool)
        asked = [i for i, row in enumerate(drawn) if row.stage != self._last]
        if asked:
            rows = np.concatenate([drawn[i].row for i in asked])
            # Skips, and the last word, as a segment hands them on.
            evidence = np.array([(1.0, drawn[i].answer, drawn[i].confidence) for i in asked])
            said = await self._ask_last(rows, straight, evidence, self._timeout_s)
            if said.degraded is not None or (said.stage != self._last).any():
                raise RuntimeError("the last stage did not answer")
            agrees[asked] = said.answer == [drawn[i].answer for i in asked]
        return agrees


def _part(number: int) -> float:
    """Of the risk, for the first, the second and so on of a series without end; they sum to 1."""
    return 1 / (number * (number + 1))


def _straight_to_the_last(policy: Policy) -> Policy:
    """A policy with which rows that are deferred early go to the last stage, which then runs alone."""
    straight = Policy.from_thresholds(policy.stages, np.ones(len(policy.stages) - 1))
    return Policy(
        straight.stages,
        straight.routers,
        straight.thresholds,
        defer_below=straight.thresholds,
        certificate={"audit_of": policy.version},
    )
