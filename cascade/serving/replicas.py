"""What runs in the replicas: a gateway with the first segment, and the later segments."""

import asyncio
import functools
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from cascade.calibration import Policy
from cascade.cascade import check_policy, load_stages
from cascade.config import CascadeConfig
from cascade.engine import Answers, Segment
from cascade.rows import check_rows
from cascade.serving.batcher import Batcher
from cascade.serving.grpc_listener import GrpcListener
from cascade.serving.guard import Guard
from cascade.serving.hop import Hop
from cascade.serving.http import HttpApp
from cascade.serving.listener import Listener
from cascade.serving.proxied import proxied_response
from cascade.serving.review import Review
from cascade.serving.wire import answer_columns

__all__ = ["Gateway", "SegmentReplica", "segment_name"]

Handle = DeploymentHandle[Any]

# Of the next segment: one runs, one waits.
CALLS_A_REPLICA = 2
# Of a segment that is scaled without a bound of its own.
MOST_REPLICAS = 100

# Longer than any batch; nobody waits for one that runs longer than twice the longest request.
LEAST_STUCK_S = 60.0


def segment_name(config: CascadeConfig, index: int) -> str:
    """Name of the deployment of segment ``index`` >= 1."""
    return "-".join(["segment", *(stage.name for stage in config.segments[index])])


def _new_batcher(config: CascadeConfig, folder: Path, index: int, following: Handle | None) -> Batcher:
    """The batcher of segment ``index``, its models loaded."""
    serving = config.serving
    first = sum(len(segment) for segment in config.segments[:index])
    segment = Segment(load_stages(config.segments[index], folder), first)
    return Batcher(
        segment.run,
        None if following is None else Hop(following, segment_name(config, index + 1)).ask,
        serving.max_batch_rows,
        serving.max_queue_rows,
        fallback=first + len(segment.stages) - 1 if serving.on_failure == "degrade" else None,
        partial=index > 0,
        most_forwards=CALLS_A_REPLICA * _replicas(config, index + 1),
    )


def _replicas(config: CascadeConfig, index: int) -> int:
    """Most replicas that a segment may have; 1 if there is no such segment."""
    asked = config.segments[index][0].deployment if index < len(config.segments) else {}
    count = asked.get("num_replicas", 1)
    scaled = asked.get("autoscaling_config") or {}
    return count if isinstance(count, int) and not scaled else int(scaled.get("max_replicas", MOST_REPLICAS))


def _check_not_stuck(batcher: Batcher, config: CascadeConfig) -> None:
    most = max(LEAST_STUCK_S, 2 * config.serving.request_timeout_s)
    if batcher.running_s > most:
        raise RuntimeError(f"a batch has been running for {batcher.running_s:.0f} s, longer than {most:.0f} s")


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
        self._config = config
        self._batcher = _new_batcher(config, folder, index, following)

    async def run(self, rows: np.ndarray, policy_json: str, earlier: np.ndarray | None, timeout_s: float) -> Answers:
        """Answers rows that the segments before were unsure of: (n, ...) -> n answers.

        Args:
            rows: of one caller.
            policy_json: the policy travels with the rows.
            earlier: (n, W), what the segments before said, where the policy has heads.
            timeout_s: seconds until nobody waits for the answers any more.
        """
        return await self._batcher.answer(rows, _parsed_policy(policy_json), earlier, timeout_s)

    async def check_health(self) -> None:
        """Asked by Ray Serve now and then; raising makes it start the replica anew."""
        _check_not_stuck(self._batcher, self._config)


class Gateway:
    """The first segment, together with the HTTP application and the listeners; Ray Serve may listen instead for HTTP.

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
        self._review = None if config.serving.review is None else Review(config.serving.review, config.classes)
        guard = Guard.from_config(config.serving)
        self._app = HttpApp(self, guard)
        self._listeners: list[Listener | GrpcListener] = []
        if config.serving.listener == "own":
            self._listeners.append(Listener(self._app, config.serving))
        if config.serving.grpc_port is not None:
            self._listeners.append(GrpcListener(self, guard, config.serving.grpc_port))
        for listener in self._listeners:
            await listener.start()

    async def __call__(self, request: Request) -> Response:
        """Answers a request that came through Ray Serve's proxy."""
        return await proxied_response(self._app, self.config.serving, request)

    async def predict(self, rows: Any, timeout_s: float | None = None) -> dict[str, Any]:
        """Answers rows from inside the cluster.

        Args:
            rows: (n, ...) as the configuration says.
            timeout_s: seconds until the deadline; at most, and by default, ``serving.request_timeout_s``.

        Returns:
            Columns "answer", "stage", "confidence", "cost", "degraded", "abstained" (and "label"), and
            "policy_version".

        Raises:
            RowsError: the rows are not what the configuration says.
            Overloaded: too many rows are waiting.
            DeadlineExceeded: there is no answer in time, and nothing to fall back to.
            StageFailed: a stage raised on these rows.
            Unavailable: a later segment is gone.
        """
        return await self.answer_rows(check_rows(rows, self.config.rows), timeout_s)

    async def answer_rows(self, rows: np.ndarray, timeout_s: float | None = None) -> dict[str, Any]:
        """Like :meth:`predict`, for rows that have been checked."""
        policy, most = self._policy, self.config.serving.request_timeout_s
        answers = await self._batcher.answer(
            rows, policy, timeout_s=most if timeout_s is None else min(timeout_s, most)
        )
        if policy.abstains:
            answers = answers.with_abstentions(policy)
        columns = answer_columns(answers, self._stages, self.config.classes) | {"policy_version": policy.version}
        if self._review is not None and answers.abstained is not None:
            self._review.add(rows, answers, policy.version)
        return columns

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its version."""
        return self._policy.to_dict() | {"version": self._policy.version}

    async def check_health(self) -> None:
        """Asked by Ray Serve now and then; raising makes it start the replica anew."""
        if not all(listener.alive for listener in self._listeners):
            raise RuntimeError("a listener has stopped")
        _check_not_stuck(self._batcher, self.config)

    async def __del__(self) -> None:
        for listener in getattr(self, "_listeners", ()):
            await listener.stop()
        review = getattr(self, "_review", None)
        if review is not None:
            await asyncio.get_running_loop().run_in_executor(None, review.close)
