"""A replica of a later segment."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from cascade.answers import Answers
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.routers import Evidence
from cascade.serving.batching.segment_client import SegmentClient
from cascade.serving.replica.garbage import freeze_loaded_objects
from cascade.serving.replica.loopback import keep_replica_on_loopback
from cascade.serving.replica.segment_batcher import check_not_stuck, new_batcher
from cascade.serving.replica.segment_deployment import segment_name, start_errors
from cascade.serving.replica.telemetry import Telemetry
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["SegmentReplica"]

# The policy travels with the rows; a version is parsed once.
_parsed_policy = functools.lru_cache(maxsize=16)(Policy.from_json)


class SegmentReplica:
    """Answers the rows that the segments before it defer.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        index: of the segment.
        next_segment: handle of the next segment, if there is one.
    """

    # Ray Serve awaits the constructor, and telemetry must start in the replica's event loop.
    async def __init__(  # type: ignore[misc]
        self, config: CascadeConfig, folder: Path, index: int, next_segment: DeploymentHandle[Any] | None = None
    ) -> None:
        with start_errors(config, index):
            keep_replica_on_loopback()
            self._config = config
            self._telemetry = Telemetry(config)
            self._client = (
                None if next_segment is None else SegmentClient(next_segment, segment_name(config, index + 1))
            )
            self._batcher = new_batcher(config, folder, index, self._client, self._telemetry)
            self._telemetry.start(self._batcher)
            freeze_loaded_objects()

    async def run(
        self,
        rows: np.ndarray,
        policy_json: str,
        evidence: np.ndarray | None,
        timeout_s: float,
        traceparent: str | None = None,
        last_stage: int | None = None,
    ) -> Answers:
        """Answers n rows of one caller.

        Args:
            rows: (n, ...), deferred by the segments before.
            policy_json: the policy, which travels with the rows.
            evidence: (n, W), of the segments before, where the policy needs it; see :meth:`Evidence.to_array`.
            timeout_s: seconds until no caller waits for the answers any more.
            traceparent: of the span that the call belongs to, if it is traced.
            last_stage: index of the last stage that may run on the rows; ``None`` for all stages.

        Raises:
            CascadeError: as :meth:`Batcher.answer <cascade.serving.batching.batcher.Batcher.answer>` raises it.
        """
        current_traceparent.set(traceparent)
        try:
            policy, found = _parsed_policy(policy_json), None
            if evidence is not None:
                found = Evidence.from_array(evidence, policy.needs_evidence, policy.defers_early)
            return await self._batcher.answer(rows, policy, found, timeout_s, last_stage)
        except CascadeError as error:
            # Ray Serve logs what is raised here, and the text of a model's own error might quote rows.
            raise error from None

    async def probe(self) -> None:
        """Returns if this segment and all after it have loaded."""
        if self._client is not None:
            await self._client.probe()

    async def check_health(self) -> None:
        """Called by Ray Serve now and then; where it raises, Ray Serve replaces the replica."""
        check_not_stuck(self._batcher, self._config)

    async def __del__(self) -> None:
        if hasattr(self, "_telemetry"):
            await self._telemetry.stop()
