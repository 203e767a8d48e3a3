"""What runs in the replicas: a gateway with the first segment, and the later segments."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from cascade.calibration import Policy, PolicySet
from cascade.cascade import load_stages
from cascade.config import CascadeConfig, StageConfig
from cascade.engine import Answers, Segment
from cascade.errors import CascadeError
from cascade.rows.checks import check_rows, example_row
from cascade.serving.audit.auditor import AskLast, Auditor
from cascade.serving.auth.guard import Guard
from cascade.serving.batching.batcher import Batcher
from cascade.serving.batching.observer import Observer
from cascade.serving.batching.segment_client import Hop
from cascade.serving.batching.steps import SegmentSteps
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.bodies.wire import answer_columns
from cascade.serving.errors import StartFailed, Unavailable
from cascade.serving.http.dashboard import dashboard_data
from cascade.serving.http.http_app import HttpApp
from cascade.serving.http.listener import Listener
from cascade.serving.http.proxied import proxied_response
from cascade.serving.oip.grpc_listener import GrpcListener
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.limits import StageLimit, limited_policy, marked_answers
from cascade.serving.policy.log import PolicyLog
from cascade.serving.policy.ray_store import RayStore, cluster_address, living_jobs
from cascade.serving.policy.trial import try_out
from cascade.serving.replica.loopback import keep_replica_on_loopback
from cascade.serving.replica.name_claim import NameClaim
from cascade.serving.replica.port_claim import PortClaim
from cascade.serving.replica.readiness import Readiness
from cascade.serving.replica.segment_name import segment_name
from cascade.serving.replica.telemetry import Telemetry
from cascade.serving.review.review import Review
from cascade.serving.telemetry.observations import Observations
from cascade.serving.telemetry.tracing import current_traceparent

__all__ = ["Gateway", "SegmentReplica", "new_name_claim"]

Handle = DeploymentHandle[Any]

# Of the next segment: one runs, one waits.
CALLS_A_REPLICA = 2
# Of a segment that is scaled without a bound of its own.
MOST_REPLICAS = 100

DRAIN_LOOK_S = 0.02
BROADCAST_S = 5.0

# Longer than any batch; nobody waits for one that runs longer than twice the longest request.
LEAST_STUCK_S = 60.0


def new_name_claim(name: str, run: str) -> NameClaim:
    """The claim of a start of a cascade on the name of its application."""
    # An application's own name has no colon, so its store is another one.
    return NameClaim(RayStore(":claims", "names"), name, run, living_jobs)


@contextlib.contextmanager
def _starting(stages: Sequence[StageConfig]) -> Iterator[None]:
    """Makes one sentence of whatever keeps a replica from starting."""
    who = f"the process of {', '.join(stage.name for stage in stages)}"
    try:
        yield
    except CascadeError as error:
        raise StartFailed(f"{who} cannot start: {error}") from None
    except Exception as error:
        raise StartFailed(f"{who} cannot start: {type(error).__name__}: {error}") from None


def _new_hop(config: CascadeConfig, index: int, following: Handle | None) -> Hop | None:
    """The way from segment ``index`` to the next one, if there is one."""
    return None if following is None else Hop(following, segment_name(config, index + 1))


def _new_batcher(
    config: CascadeConfig,
    folder: Path,
    index: int,
    hop: Hop | None,
    telemetry: Telemetry,
    observer: Observer | None = None,
) -> Batcher:
    """The batcher of segment ``index``, its models loaded."""
    serving = config.serving
    first = sum(len(segment) for segment in config.segments[:index])
    stages = load_stages(config.segments[index], folder, config.classes)
    segment = Segment(stages, first, telemetry.watch)
    return Batcher(
        segment.run,
        None if hop is None else hop.ask,
        serving.max_batch_rows,
        serving.max_queue_rows,
        fallback=first + len(segment.stages) - 1 if serving.on_failure == "degrade" else None,
        partial=index > 0,
        most_forwards=CALLS_A_REPLICA * _replicas(config, index + 1),
        observer=observer,
        seen=telemetry.seen,
        tracing=telemetry.tracing,
        # A processor waits for an accelerator, and reads requests meanwhile.
        steps=SegmentSteps(segment),
        max_inline_s=0.0 if _asks_for_gpus(config, index) else serving.max_inline_ms / 1e3,
    )


def _asks_for_gpus(config: CascadeConfig, index: int) -> bool:
    options = config.segments[index][0].deployment.get("ray_actor_options") or {}
    return bool(options.get("num_gpus"))


def _gateways(config: CascadeConfig) -> int:
    """Most gateways that there may be."""
    asked = config.segments[0][0].deployment
    given = "num_replicas" in asked or "autoscaling_config" in asked
    return _replicas(config, 0) if given else config.serving.gateways


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

    # Ray Serve awaits the constructor, and telemetry must start in the replica's event loop.
    async def __init__(  # type: ignore[misc]
        self, config: CascadeConfig, folder: Path, index: int, following: Handle | None = None
    ) -> None:
        with _starting(config.segments[index]):
            keep_replica_on_loopback()
            self._config = config
            self._telemetry = Telemetry(config)
            self._hop = _new_hop(config, index, following)
            self._batcher = _new_batcher(config, folder, index, self._hop, self._telemetry)
            self._telemetry.start(self._batcher)

    async def run(
        self,
        rows: np.ndarray,
        policy_json: str,
        earlier: np.ndarray | None,
        timeout_s: float,
        traceparent: str | None = None,
    ) -> Answers:
        """Answers rows that the segments before were unsure of: (n, ...) -> n answers.

        Args:
            rows: of one caller.
            policy_json: the policy travels with the rows.
            earlier: (n, W), what the segments before said, where the policy has heads.
            timeout_s: seconds until nobody waits for the answers any more.
            traceparent: of the span that the call belongs to, if it is traced.
        """
        current_traceparent.set(traceparent)
        try:
            return await self._batcher.answer(rows, _parsed_policy(policy_json), earlier, timeout_s)
        except CascadeError as error:
            # Ray Serve logs what is raised here, and the text of a model's own error might quote rows.
            raise error from None

    async def probe(self) -> None:
        """Returns if this segment has loaded, and all after it have."""
        if self._hop is not None:
            await self._hop.probe()

    async def check_health(self) -> None:
        """Asked by Ray Serve now and then; raising makes it start the replica anew."""
        _check_not_stuck(self._batcher, self._config)

    async def __del__(self) -> None:
        if hasattr(self, "_telemetry"):
            await self._telemetry.stop()


class Gateway:
    """The first segment, together with the HTTP application and the listeners; Ray Serve may listen instead for HTTP.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        policies_json: the policy set to begin with, unless another one has come into force since.
        run: tells this start of the cascade from others; all its gateways share a log of policies.
        following: the next segment, if there is one.
    """

    # Ray Serve awaits the constructor, and the listener must start in the replica's event loop.
    async def __init__(  # type: ignore[misc]
        self, config: CascadeConfig, folder: Path, policies_json: str, run: str, following: Handle | None = None
    ) -> None:
        with _starting(config.segments[0]):
            keep_replica_on_loopback()
            await self._start(config, folder, policies_json, run, following)

    async def _start(
        self, config: CascadeConfig, folder: Path, policies_json: str, run: str, following: Handle | None
    ) -> None:
        self.config = config
        self._stages = [stage.name for stage in config.stages]
        self._is_stopping = False
        self._telemetry = telemetry = Telemetry(config)
        application = telemetry.application
        new_name_claim(application, run).check()
        hop = _new_hop(config, 0, following)
        store = RayStore(application, run)
        store.drop_other_runs()
        self._auditor = Auditor(
            config.serving.audit,
            len(config.stages),
            len(config.segments[0]),
            _gateways(config),
            config.serving.request_timeout_s,
            start=store.next_number("gateway"),
        )
        self._batcher = _new_batcher(config, folder, 0, hop, telemetry, self._auditor)
        ask_last: AskLast = self._batcher.answer if hop is None else hop.ask
        self._auditor.start(ask_last, lambda: self._batcher.is_idle)
        self._readiness = Readiness(None if hop is None else hop.probe)
        self._review = None if config.serving.review is None else Review(config.serving.review, config.classes)
        self._limit = StageLimit(self._stages, config.serving.least_max_stage)
        self.policies = PolicyKeeper(
            PolicySet.from_json(policies_json),
            config.stages,
            config.serving.gears,
            PolicyLog(store),
            functools.partial(try_out, self._batcher, example_row(config.rows)),
            functools.partial(_call_all_gateways, application, "follow_policy"),
        )
        await self.policies.open()
        self._gear_watch = None
        if config.serving.gears is not None:
            self._gear_watch = asyncio.get_running_loop().create_task(self.policies.watch(self._batcher))
        guard = Guard.from_config(config.serving)
        self._app = HttpApp(self, guard, telemetry.seen, telemetry.tracing)
        self._bodies = PendingBodies(config.serving.max_pending_body_bytes)
        self._listeners: list[Listener | GrpcListener] = []
        if config.serving.listener == "own":
            self._listeners.append(Listener(self._app, config.serving, self._bodies))
        if config.serving.grpc_port is not None:
            self._listeners.append(GrpcListener(self, guard, config.serving.grpc_port, telemetry.seen, self._bodies))
        telemetry.start(self._batcher, self._tell)
        self._claims: list[PortClaim] = []
        for listener in self._listeners:
            claim = PortClaim(config.serving.host, listener.port, application, cluster_address())
            await asyncio.to_thread(claim.take)
            self._claims.append(claim)
            await listener.start()
        self._readiness.start()

    async def __call__(self, request: Request) -> Response:
        """Answers a request that came through Ray Serve's proxy."""
        self._check_not_stopping()
        return await proxied_response(self._app, self.config.serving, self._bodies, request)

    async def predict(self, rows: Any, timeout_s: float | None = None, max_stage: str | None = None) -> dict[str, Any]:
        """Answers rows from inside the cluster.

        Args:
            rows: (n, ...) as the configuration says.
            timeout_s: seconds until the deadline; at most, and by default, ``serving.request_timeout_s``.
            max_stage: name of the last stage that may look at the rows, raised to ``serving.least_max_stage``; rows
                that it is not sure of have its answer, and are marked as degraded.

        Returns:
            Columns "answer", "stage", "confidence", "cost", "degraded", "abstained" (and "label"), and
            "policy_version".

        Raises:
            RowsError: the rows are not what the configuration says, or there is no such stage.
            Overloaded: too many rows are waiting.
            DeadlineExceeded: there is no answer in time, and nothing to fall back to.
            StageFailed: the model of a stage failed on these rows, or broke the stage contract.
            Unavailable: a later segment is gone, or the cascade is stopping.
        """
        try:
            self._check_not_stopping()
            return await self.answer_rows(check_rows(rows, self.config.rows), timeout_s, max_stage)
        except CascadeError as error:
            if self._telemetry.seen is not None:
                self._telemetry.seen.refused(error)
            raise error from None  # Ray Serve logs it, see SegmentReplica.run

    async def answer_rows(
        self, rows: np.ndarray, timeout_s: float | None = None, max_stage: str | None = None
    ) -> dict[str, Any]:
        """Like :meth:`predict`, for rows that have been checked."""
        policy, most = self.policies.policy, self.config.serving.request_timeout_s
        timeout_s = most if timeout_s is None else min(timeout_s, most)
        last = None if max_stage is None else self._limit.place(max_stage)
        answering = (
            self._audited(rows, policy, timeout_s) if last is None else self._limited(rows, policy, timeout_s, last)
        )
        if policy.abstains:
            answering = self._abstaining(answering, rows, policy)
        answers = await self._telemetry.answered(answering, len(rows), policy)
        return answer_columns(answers, self._stages, self.config.classes) | {"policy_version": policy.version}

    async def _audited(self, rows: np.ndarray, policy: Policy, timeout_s: float) -> Answers:
        """Answers rows, some of which may be drawn to be held against the last stage afterwards."""
        draw = self._auditor.draw(rows, policy)
        try:
            answers = await self._batcher.answer(rows, policy, timeout_s=timeout_s)
        except BaseException:
            if draw is not None:
                draw.lose()
            raise
        if draw is not None:
            draw.settle(answers)
        return answers

    async def _limited(self, rows: np.ndarray, policy: Policy, timeout_s: float, last: int) -> Answers:
        """Answers rows that the stage at place ``last`` is to answer at the latest."""
        answers = await self._batcher.answer(rows, limited_policy(policy, last), timeout_s=timeout_s)
        return marked_answers(answers, policy, last)

    async def _abstaining(self, answering: Awaitable[Answers], rows: np.ndarray, policy: Policy) -> Answers:
        """Marks the rows that are left to a person, and sends them on their way to one."""
        answers = (await answering).with_abstentions(policy)
        if self._review is not None:
            self._review.add(rows, answers, policy.version)
        return answers

    @property
    def is_ready(self) -> bool:
        """Whether the later segments can be reached and have loaded, as of a few seconds ago."""
        return self._readiness.is_ready

    def _check_not_stopping(self) -> None:
        if self._is_stopping:
            raise Unavailable("the cascade is being stopped")

    async def follow_policy(self) -> None:
        """Puts a new policy into force now; another gateway has written it into the log."""
        await self.policies.follow()

    async def drain(self) -> None:
        """Takes no further requests, and returns when those under way are answered.

        To be called at all gateways before any segment is stopped: rows of these requests may have to go there.
        """
        self._is_stopping = True
        self._readiness.stop()
        self._auditor.stop()
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        for claim in self._claims:
            claim.release()
        end = time.monotonic() + self.config.serving.request_timeout_s
        while not self._batcher.is_idle and time.monotonic() < end:
            await asyncio.sleep(DRAIN_LOOK_S)

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force, with its version."""
        return self.policies.describe()

    def describe_audit(self) -> dict[str, Any]:
        """What the audit has found so far, at this gateway."""
        return self._auditor.describe(self.policies.policy)

    def describe_traffic(self) -> dict[str, Any]:
        """What the live page shows."""
        telemetry, gateways = self._telemetry, self.config.serving.gateways
        gateway = {"rank": telemetry.rank, "of": gateways, "replica": telemetry.replica}
        return dashboard_data(self.config, self.policies.policy, telemetry.history, gateway)

    def _tell(self, seen: Observations) -> None:
        """Notes which policy is in force, what the audit has found of it, and what went to a person."""
        policy = self.policies.policy
        seen.policy_version = policy.version
        seen.reloads["accepted"] = self.policies.revision
        if self.config.serving.gears is not None:
            seen.gear = self.policies.gear
        self._auditor.tell(policy, seen)
        if self._review is not None:
            seen.reviewed_rows |= self._review.outcomes

    async def check_health(self) -> None:
        """Asked by Ray Serve now and then; raising makes it start the replica anew."""
        if not self._is_stopping and not all(listener.alive for listener in self._listeners):
            raise RuntimeError("a listener has stopped")
        _check_not_stuck(self._batcher, self.config)

    async def __del__(self) -> None:
        if hasattr(self, "_claims") and not self._is_stopping:
            await self.drain()
        gear_watch = getattr(self, "_gear_watch", None)
        if gear_watch is not None:
            gear_watch.cancel()
        if hasattr(self, "policies"):
            await self.policies.close()
        if hasattr(self, "_telemetry"):
            await self._telemetry.stop()
        review = getattr(self, "_review", None)
        if review is not None:
            await asyncio.get_running_loop().run_in_executor(None, review.close)


async def _call_all_gateways(application: str, method: str) -> None:
    """Calls a method of all gateways, the calling one among them, and waits for none."""
    gateways = serve.get_deployment_handle("gateway", application)
    await gateways.broadcast(method).results_async(timeout_s=BROADCAST_S, return_exceptions=True)
