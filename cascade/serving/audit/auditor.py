"""The audit of a gateway: a sample of its answers is compared with the last stage's, in the background."""

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.calibration.monitoring.monitor import Monitor
from cascade.config import AuditConfig
from cascade.routers import Evidence
from cascade.serving.audit.audit_sample import Draw, DrawnRow, RowSampler
from cascade.serving.audit.policy_audit import PolicyAudit
from cascade.serving.telemetry.observations import Observations

__all__ = ["Auditor", "RunLastStage"]

RunLastStage = Callable[[np.ndarray, Policy, Evidence | None, float], Awaitable[Answers]]
"""Takes rows (n, ...), a policy that runs the last stage alone, no evidence, and seconds until the deadline."""

# Rows are counted, and drawn rows audited, this often.
PERIOD_S = 0.1
# Audited at a time; while a policy is replaced, or several share the load, there are a few.
MAX_POLICIES = 16

logger = logging.getLogger(__name__)


class Auditor:
    """Draws a share of the rows, sends them to the last stage when there is time, and raises the alarm.

    A row is drawn when it comes, before anything about it is known, and drawn rows are audited in the order in which
    they came. So the selection depends neither on the answer, nor on its latency, nor on how full the queue is, and the
    agreement of the audited rows estimates that of all rows without bias. A drawn row that the last stage itself
    answered agrees by construction.

    The risk of a false alarm, ``audit.delta``, is that of all gateways, of all policies that they ever audit, and of
    all their starts together (alpha spending). Of G gateways, the starts 1 to G have 1/2 of it, the next G have 1/6,
    and so on: 1 / (g (g + 1)) for the g-th G of them, whose sum is 1. The v-th policy that a gateway audits has
    1 / (v (v + 1)) of its gateway's risk. More starts and policies delay an alarm by the logarithm of their number.

    In a request nothing but counting happens: a draw that misses costs a subtraction, a batch one copy of its stages.
    All else is done in a task of its own, a few times per second.

    Args:
        settings: of the configuration.
        stages: number of the cascade's stages.
        first_behind: index of the first stage behind the gateway's segment; the number of stages if there is none.
        gateways: that share the risk of a false alarm.
        timeout_s: for the last stage's answer.
        seed: of the draws; random by default.
        start: number of this start of a gateway, 1 for the first, among all that share the risk.
    """

    def __init__(
        self,
        settings: AuditConfig,
        stages: int,
        first_behind: int,
        gateways: int = 1,
        timeout_s: float = 30.0,
        seed: int | None = None,
        start: int = 1,
    ) -> None:
        self._settings = settings
        self._last = stages - 1
        self._first_behind = first_behind
        self._gateways = gateways
        self._start = start
        self._policies_audited = 0
        self._dropped_rows = 0
        self._timeout_s = timeout_s
        self._sampler = RowSampler(settings.share, seed)
        self._name = secrets.token_hex(4)
        self._audits: OrderedDict[str, PolicyAudit] = OrderedDict()
        self._latest_policy: Policy | None = None
        self._queue: deque[DrawnRow] = deque()
        self._not_before = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, run_last_stage: RunLastStage, is_idle: Callable[[], bool]) -> None:
        """Starts to audit, in the running event loop.

        Args:
            run_last_stage: sends rows to the last stage.
            is_idle: whether no requests wait.
        """
        self._run_last_stage, self._is_idle = run_last_stage, is_idle
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Audits no more rows."""
        if self._task is not None:
            self._task.cancel()

    def draw(self, rows: np.ndarray, policy: Policy) -> Draw | None:
        """Decides which rows of a request are audited; called for every request.

        Args:
            rows: (n, ...).
            policy: that routes them.

        Returns:
            The drawn rows, which must be settled or lost; ``None`` if there are none, as mostly.
        """
        if policy is not self._latest_policy:
            self._audit_of(policy)
        places = self._sampler.places(len(rows))
        return self._draw(rows, places, policy) if places else None

    def decided(self, policy: Policy, answers: Answers) -> None:
        """See :class:`~cascade.serving.batching.observer.Observer`."""
        audit = self._audits.get(policy.version)
        if audit is not None:  # the audit's own rows are not traffic
            audit.add_decided(answers)

    def returned(self, policy: Policy, answers: Answers, previous_answer: np.ndarray) -> None:
        """See :class:`~cascade.serving.batching.observer.Observer`."""
        audit = self._audits.get(policy.version)
        if audit is not None:
            audit.add_returned(answers, previous_answer)

    def describe(self, policy: Policy) -> dict[str, Any]:
        """The state, as plain values.

        Args:
            policy: in force.
        """
        self._audit_of(policy)
        self._update()
        return {
            "gateway": self._name,
            "gateways": self._gateways,
            "start": self._start,
            "share": self._settings.share,
            "policy_version": policy.version,
            "alarm": any(audit.monitor.alarms for audit in self._audits.values()),
            "waiting_rows": len(self._queue),
            "policies": {version: audit.to_dict() for version, audit in self._audits.items()},
        }

    def export(self, policy: Policy, stats: Observations) -> None:
        """Sets the estimate and the alarms of the policy in force in the statistics."""
        audit = self._audit_of(policy)
        self._update()
        stats.audit = audit.estimate() or stats.audit
        stats.dropped_audit_rows = self._dropped_rows
        stats.alarms = audit.alarms()

    def _audit_of(self, policy: Policy) -> PolicyAudit:
        audit = self._audits.get(policy.version)
        if audit is None:
            settings, share = self._settings, self._next_share()
            monitor = Monitor(
                policy, settings.delta, share, self._first_behind, settings.least_agreement, settings.rate_tolerance
            )
            audit = self._audits[policy.version] = PolicyAudit(policy, monitor)
            if len(self._audits) > MAX_POLICIES:
                self._audits.popitem(last=False)
        self._latest_policy = policy
        return audit

    def _next_share(self) -> float:
        """Share of the risk for one more policy."""
        self._policies_audited += 1
        return _series(self._policies_audited) * _series(1 + (self._start - 1) // self._gateways) / self._gateways

    def _draw(self, rows: np.ndarray, places: list[int], policy: Policy) -> Draw | None:
        counts = self._audit_of(policy).counts
        if len(self._queue) + len(places) > self._settings.max_queue_rows:
            counts["dropped"] += len(places)
            self._dropped_rows += len(places)
            return None
        counts["drawn"] += len(places)
        draw = Draw(places, [DrawnRow(policy, rows[place : place + 1].copy()) for place in places])
        self._queue.extend(draw.rows)
        return draw

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                self._update()
                while (drawn := self._next()) and self._may_run():
                    await self._audit_rows(drawn)
            except Exception:  # an audit that has ended would look like one that finds nothing
                logger.exception("the audit failed, and goes on")

    def _update(self) -> None:
        for audit in self._audits.values():
            audit.update()

    def _next(self) -> list[DrawnRow]:
        """The oldest drawn rows that are settled, of one policy; lost ones leave the queue."""
        found: list[DrawnRow] = []
        for row in tuple(self._queue):
            if not row.is_settled or len(found) == self._settings.max_batch_rows:
                break
            if row.lost:
                self._queue.remove(row)
                self._count(row, "lost")
            elif found and row.policy is not found[0].policy:
                break
            else:
                found.append(row)
        return found

    def _count(self, row: DrawnRow, outcome: str) -> None:
        audit = self._audits.get(row.policy.version)
        if audit is not None:
            audit.counts[outcome] += 1

    def _may_run(self) -> bool:
        return self._is_idle() or (
            self._settings.busy_time_share > 0 and asyncio.get_running_loop().time() >= self._not_before
        )

    async def _audit_rows(self, drawn: list[DrawnRow]) -> None:
        """Audits settled rows at the head of the queue, and takes them from it."""
        loop = asyncio.get_running_loop()
        audit = self._audits.get(drawn[0].policy.version)
        began = loop.time()
        try:
            agrees = None if audit is None else await self._agreement(drawn, audit.last_stage_alone)
        except Exception as error:
            agrees = None
            logger.debug("%d drawn rows could not be audited: %s", len(drawn), type(error).__name__)
        finally:
            for row in drawn:
                self._queue.remove(row)
        if self._settings.busy_time_share:
            self._not_before = loop.time() + (loop.time() - began) * (1 / self._settings.busy_time_share - 1)
        for row in drawn:
            self._count(row, "lost" if agrees is None else "audited")
        if audit is not None and agrees is not None:
            audit.add_audited(np.array([row.stage for row in drawn]), agrees)

    async def _agreement(self, drawn: list[DrawnRow], policy: Policy) -> np.ndarray:
        """(m,) bool, whether the last stage's answer is the one that was given."""
        agrees = np.ones(len(drawn), dtype=bool)
        earlier = [i for i, row in enumerate(drawn) if row.stage != self._last]
        if earlier:
            rows = np.concatenate([drawn[i].row for i in earlier])
            found = await self._run_last_stage(rows, policy, None, self._timeout_s)
            if found.degraded is not None or (found.stage != self._last).any():
                raise RuntimeError("the last stage did not answer")
            agrees[earlier] = found.answer == [drawn[i].answer for i in earlier]
        return agrees


def _series(number: int) -> float:
    """Share of the risk for the first, the second and so on of a series without end; they sum to 1."""
    return 1 / (number * (number + 1))
