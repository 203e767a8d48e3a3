"""A gateway: the first segment, with the HTTP application and the listeners."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.errors import CascadeError
from cascade.rows.checks import check_rows
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import Unavailable
from cascade.serving.http.http_app import HttpApp
from cascade.serving.http.listener import Listener
from cascade.serving.http.proxied import proxied_response
from cascade.serving.oip.grpc_listener import GrpcListener
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.replica.gateway_service import GatewayService
from cascade.serving.replica.port_claim import PortClaim
from cascade.serving.replica.segment_batcher import check_not_stuck

__all__ = ["Gateway", "GatewayParts"]

DRAIN_POLL_S = 0.02


@dataclass(frozen=True, eq=False)
class GatewayParts:
    """What a gateway is made of, built and not yet started.

    Attributes:
        service: answers the rows.
        app: the HTTP application in front of it.
        bodies: the bytes of all bodies under way.
        listeners: of the process; none for HTTP where Ray Serve listens.
        claims: on the listeners' ports, already taken.
    """

    service: GatewayService
    app: HttpApp
    bodies: PendingBodies
    listeners: Sequence[Listener | GrpcListener]
    claims: Sequence[PortClaim]


class Gateway:
    """Takes requests from its listeners, from Ray Serve's proxy and from handles inside the cluster.

    Args:
        parts: see :func:`cascade.serving.replica.gateway_factory.new_gateway_parts`.
    """

    def __init__(self, parts: GatewayParts) -> None:
        self.service = parts.service
        self._config = parts.service.config
        self._app = parts.app
        self._bodies = parts.bodies
        self._listeners = parts.listeners
        self._claims = parts.claims
        self._is_stopping = False

    async def start(self) -> None:
        """Starts the service, then listens.

        Raises:
            OSError: an address cannot be bound.
            Unavailable: the log of policies cannot be reached.
        """
        await self.service.start()
        for listener in self._listeners:
            await listener.start()

    async def __call__(self, request: Request) -> Response:
        """Answers a request that came through Ray Serve's proxy."""
        self._check_not_stopping()
        return await proxied_response(self._app, self._config.serving, self._bodies, request)

    async def predict(self, rows: Any, timeout_s: float | None = None, max_stage: str | None = None) -> dict[str, Any]:
        """Answers rows from inside the cluster.

        Args:
            rows: (n, ...), as configured.
            timeout_s: seconds until the deadline; at most, and by default, ``serving.request_timeout_s``.
            max_stage: name of the last stage that may run, raised to ``serving.least_max_stage``; rows that it is not
                sure of have its answer, and are marked as degraded.

        Returns:
            Columns "answer", "stage", "confidence", "cost", "degraded", "abstained" (and "label"), and
            "policy_version".

        Raises:
            RowsError: the rows do not match the configuration, or there is no such stage.
            Overloaded: too many rows are waiting.
            DeadlineExceeded: there is no answer in time, and nothing to fall back to.
            StageFailed: the model of a stage failed on these rows, or broke the stage contract.
            Unavailable: a later segment is gone, or the cascade is stopping.
        """
        try:
            self._check_not_stopping()
            overrides = RequestOverrides(timeout_s, max_stage)
            return await self.service.answer_rows(check_rows(rows, self._config.rows), overrides)
        except CascadeError as error:
            if self.service.telemetry.stats is not None:
                self.service.telemetry.stats.refused(error)
            raise error from None  # Ray Serve logs it, and the text of a model's own error might quote rows

    def _check_not_stopping(self) -> None:
        if self._is_stopping:
            raise Unavailable("the cascade is being stopped")

    async def follow_policy(self) -> None:
        """Puts a new policy into force now; another gateway has written it into the log."""
        await self.service.policies.follow()

    async def drain(self) -> None:
        """Takes no further requests, and returns when those under way are answered.

        All gateways must be drained before any segment is stopped: rows of these requests may have to go there.
        """
        self._is_stopping = True
        self.service.stop_background()
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        for claim in self._claims:
            claim.release()
        deadline = time.monotonic() + self._config.serving.request_timeout_s
        while not self.service.batcher.is_idle and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_S)

    async def check_health(self) -> None:
        """Called by Ray Serve now and then; where it raises, Ray Serve replaces the replica."""
        if not self._is_stopping and not all(listener.alive for listener in self._listeners):
            raise RuntimeError("a listener has stopped")
        check_not_stuck(self.service.batcher, self._config)

    async def close(self) -> None:
        """Drains the gateway unless it has been drained, and ends its work."""
        if not self._is_stopping:
            await self.drain()
        await self.service.close()
