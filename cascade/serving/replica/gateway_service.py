"""The service of a gateway: answers rows, and describes its policy, audit and traffic."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.serving.audit.auditor import Auditor, RunLastStage
from cascade.serving.batching.batcher import Batcher
from cascade.serving.bodies.wire import answer_columns
from cascade.serving.detection.served_detector import ServedDetector
from cascade.serving.http.dashboard import dashboard_data
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.replica.readiness import Readiness
from cascade.serving.replica.telemetry import Telemetry
from cascade.serving.review.review import Review
from cascade.serving.telemetry.observations import Observations

__all__ = ["GatewayService"]


@dataclass(eq=False)
class GatewayService:
    """A :class:`~cascade.serving.service.Service` on a batcher.

    Attributes:
        config: of the cascade.
        telemetry: of the process.
        batcher: of the first segment.
        policies: keeps the policy in force.
        auditor: compares a sample of the answers with the last stage's.
        run_last_stage: sends audited rows to the last stage.
        readiness: of the later segments.
        review: receives the rows that are abstained on; ``None`` for none.
    """

    config: CascadeConfig
    telemetry: Telemetry
    batcher: Batcher
    policies: PolicyKeeper
    auditor: Auditor
    run_last_stage: RunLastStage
    readiness: Readiness
    review: Review | None
    _gear_task: "asyncio.Task[None] | None" = field(init=False, default=None)
    _stages: list[str] = field(init=False)
    _detector: ServedDetector | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.config.detection is not None:
            self._detector = ServedDetector(self.config)
        self._stages = [stage.name for stage in self.config.stages]

    async def start(self) -> None:
        """Starts the background work, in the running event loop.

        Raises:
            Unavailable: the log of policies cannot be reached.
        """
        self.auditor.start(self.run_last_stage, lambda: self.batcher.is_idle)
        await self.policies.open()
        if self.config.serving.gears is not None:
            self._gear_task = asyncio.get_running_loop().create_task(self.policies.watch(self.batcher))
        self.telemetry.start(self.batcher, self._export)
        self.readiness.start()

    def stop_background(self) -> None:
        """Stops the audit and the readiness probes; from now on the service is not ready."""
        self.readiness.stop()
        self.auditor.stop()

    async def close(self) -> None:
        """Ends all work, once no request is under way."""
        if self._gear_task is not None:
            self._gear_task.cancel()
        if self._detector is not None:
            self._detector.close()
        await self.policies.close()
        await self.telemetry.stop()
        if self.review is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.review.close)

    @property
    def is_ready(self) -> bool:
        """Whether the later segments can be reached and have loaded, as of a few seconds ago."""
        return self.readiness.is_ready

    async def answer_rows(self, rows: np.ndarray, overrides: RequestOverrides) -> dict[str, Any]:
        """Answers checked rows, as columns.

        Args:
            rows: (n, ...), as configured.
            overrides: of the configuration, by this request.

        Returns:
            Columns "answer", "stage", "confidence", "cost", "degraded", "abstained" (and "label"), and
            "policy_version".

        Raises:
            CascadeError: as :meth:`Gateway.predict <cascade.serving.replica.gateway.Gateway.predict>` raises it.
        """
        policy, timeout_s = self.policies.policy, overrides.limited_timeout_s(self.config)
        last_stage = overrides.last_stage(self.config)
        if last_stage is None:
            answering = self._audited(rows, policy, timeout_s)
        else:
            answering = self.batcher.answer(rows, policy, timeout_s=timeout_s, last_stage=last_stage)
        if policy.abstains:
            answering = self._abstaining(answering, rows, policy)
        answers = await self.telemetry.answered(answering, len(rows), policy)
        return answer_columns(answers, self._stages, self.config.classes) | {"policy_version": policy.version}

    async def detect(self, content: bytes, overrides: RequestOverrides) -> dict[str, Any]:
        """Finds the objects in an image; all of its windows are answered under one policy, and count as one request.

        Args:
            content: of a JPEG, PNG or WebP file.
            overrides: of the configuration, by this request.

        Returns:
            See :meth:`cascade.detection.detections.Detections.to_dict`.

        Raises:
            ConfigError: the configuration has no section ``detection``.
            CascadeError: as :meth:`ServedDetector.detect` raises it.
        """
        detector = self._detector or ServedDetector(self.config)
        policy, timeout_s = self.policies.policy, overrides.limited_timeout_s(self.config)
        last_stage = overrides.last_stage(self.config)
        started = time.perf_counter()

        async def answer(rows: np.ndarray, remaining_s: float) -> Answers:
            if last_stage is None:
                answers = await self._audited(rows, policy, remaining_s)
            else:
                answers = await self.batcher.answer(rows, policy, timeout_s=remaining_s, last_stage=last_stage)
            return answers.with_abstentions(policy)

        found = await detector.detect(content, policy, answer, timeout_s)
        if self.telemetry.stats is not None:
            self.telemetry.stats.searched(time.perf_counter() - started, found)
        return found.to_dict()

    async def _audited(self, rows: np.ndarray, policy: Policy, timeout_s: float) -> Answers:
        """Answers rows, some of which may be drawn for the audit."""
        draw = self.auditor.draw(rows, policy)
        try:
            answers = await self.batcher.answer(rows, policy, timeout_s=timeout_s)
        except BaseException:
            if draw is not None:
                draw.lose()
            raise
        if draw is not None:
            draw.settle(answers)
        return answers

    async def _abstaining(self, answering: Awaitable[Answers], rows: np.ndarray, policy: Policy) -> Answers:
        """Marks the rows that are abstained on, and passes them on for review."""
        answers = (await answering).with_abstentions(policy)
        if self.review is not None:
            self.review.add(rows, answers, policy.version)
        return answers

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its version."""
        return self.policies.describe()

    def describe_audit(self) -> dict[str, Any]:
        """The audit's results so far, at this gateway."""
        return self.auditor.describe(self.policies.policy)

    def describe_traffic(self) -> dict[str, Any]:
        """The dashboard's numbers of this gateway."""
        telemetry, gateways = self.telemetry, self.config.serving.gateways
        gateway = {"rank": telemetry.rank, "of": gateways, "replica": telemetry.replica}
        return dashboard_data(self.config, self.policies.policy, telemetry.history, gateway)

    def _export(self, stats: Observations) -> None:
        """Records the policy in force, the audit's results and the reviewed rows in the statistics."""
        policy = self.policies.policy
        stats.policy_version = policy.version
        stats.reloads["accepted"] = self.policies.revision
        if self.config.serving.gears is not None:
            stats.gear = self.policies.gear
        self.auditor.export(policy, stats)
        if self.review is not None:
            stats.reviewed_rows |= self.review.outcomes
