"""What runs in the replicas: a gateway with the first segment, and the later segments."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle

from cascade.calibration import Policy
from cascade.cascade import check_policy, load_stages
from cascade.config import CascadeConfig
from cascade.engine import Answers, Segment
from cascade.rows import check_rows
from cascade.serving.batcher import Batcher, Forward
from cascade.serving.guard import Guard, GuardedApp
from cascade.serving.http import HttpApp
from cascade.serving.listener import Listener
from cascade.serving.wire import answer_columns

__all__ = ["Gateway", "SegmentReplica"]

Handle = DeploymentHandle[Any]


def _new_batcher(config: CascadeConfig, folder: Path, index: int, following: Handle | None) -> Batcher:
    """The batcher of segment ``index``, its models loaded."""
    segments = config.segments
    first = sum(len(segment) for segment in segments[:index])
    segment = Segment(load_stages(segments[index], folder), first)
    forward: Forward | None = None
    if following is not None:
        forward = functools.partial(_forward, following)
    return Batcher(segment.run, forward, config.serving.max_batch_rows, config.serving.max_queue_rows)


async def _forward(following: Handle, rows: np.ndarray, policy: Policy, evidence: np.ndarray | None) -> Answers:
    answers: Answers = await following.run.remote(rows, policy.to_json(), evidence)
    return answers


# The policy travels with the rows; a version is parsed once.
_parsed_policy = functools.lru_cache(maxsize=16)(Policy.from_json)


class SegmentReplica:
    """A later segment.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        index: of the segment.
        following: the next segment, if there is one.
    """

    def __init__(self, config: CascadeConfig, folder: Path, index: int, following: Handle | None = None) -> None:
        self._batcher = _new_batcher(config, folder, index, following)

    async def run(self, rows: np.ndarray, policy_json: str, earlier: np.ndarray | None = None) -> Answers:
        """Answers rows that the segments before were unsure of: (n, ...) -> n answers.

        Args:
            rows: of one caller.
            policy_json: the policy travels with the rows.
            earlier: (n, W), what the segments before said, where the policy has heads.
        """
        return await self._batcher.answer(rows, _parsed_policy(policy_json), earlier)


class Gateway:
    """The first segment, together with the HTTP listener.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        policy_json: the policy to begin with.
        following: the next segment, if there is one.
    """

    # Ray Serve awaits the constructor, and the listener must start in the replica's event loop.
    async def __init__(  # type: ignore[misc]
        self, config: CascadeConfig, folder: Path, policy_json: str, following: Handle | None = None
    ) -> None:
        self.config = config
        self._stages = [stage.name for stage in config.stages]
        self._policy = check_policy(Policy.from_json(policy_json), self._stages)
        self._batcher = _new_batcher(config, folder, 0, following)
        self._listener = Listener(GuardedApp(HttpApp(self), Guard.from_config(config.serving)), config.serving)
        await self._listener.start()

    async def predict(self, rows: Any) -> dict[str, Any]:
        """Answers rows from inside the cluster.

        Args:
            rows: (n, ...) as the configuration says.

        Returns:
            Columns "answer", "stage", "confidence", "cost" (and "label"), and "policy_version".

        Raises:
            RowsError: the rows are not what the configuration says.
            Overloaded: too many rows are waiting.
        """
        return await self.answer_rows(check_rows(rows, self.config.rows))

    async def answer_rows(self, rows: np.ndarray) -> dict[str, Any]:
        """Like :meth:`predict`, for rows that have been checked."""
        policy = self._policy
        answers = await self._batcher.answer(rows, policy)
        return answer_columns(answers, self._stages, self.config.classes) | {"policy_version": policy.version}

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its version."""
        return self._policy.to_dict() | {"version": self._policy.version}

    async def check_health(self) -> None:
        """Asked by Ray Serve now and then; raising makes it start the replica anew."""
        if not self._listener.alive:
            raise RuntimeError("the HTTP listener has stopped")

    async def __del__(self) -> None:
        listener = getattr(self, "_listener", None)
        if listener is not None:
            await listener.stop()
