"""Builds the parts of a gateway, each from those before it."""

import functools
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from cascade.calibration import PolicySet
from cascade.config import CascadeConfig
from cascade.rows.checks import example_row
from cascade.serving.audit.auditor import Auditor
from cascade.serving.auth.guard import Guard
from cascade.serving.batching.batcher import Batcher
from cascade.serving.batching.segment_client import SegmentClient
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.http.http_app import HttpApp
from cascade.serving.http.listener import Listener
from cascade.serving.oip.grpc_listener import GrpcListener
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.log import PolicyLog
from cascade.serving.policy.ray_store import RayStore, cluster_address
from cascade.serving.policy.trial import try_out
from cascade.serving.replica.gateway import GatewayParts
from cascade.serving.replica.gateway_service import GatewayService
from cascade.serving.replica.name_claim import new_name_claim
from cascade.serving.replica.port_claim import PortClaim
from cascade.serving.replica.readiness import Readiness
from cascade.serving.replica.segment_batcher import new_batcher
from cascade.serving.replica.segment_deployment import max_gateways, segment_name
from cascade.serving.replica.telemetry import Telemetry
from cascade.serving.review.review import Review

__all__ = ["new_gateway_parts"]

BROADCAST_S = 5.0


def new_gateway_parts(
    config: CascadeConfig, folder: Path, policies_json: str, run: str, next_segment: DeploymentHandle[Any] | None
) -> GatewayParts:
    """Builds a gateway's parts in the process that runs it: claims its ports, then loads the models of its segment.

    Args:
        config: of the cascade.
        folder: of the configuration file.
        policies_json: the policy set to begin with, unless another one has come into force since.
        run: id of this start of the cascade; all its gateways share a log of policies.
        next_segment: handle of the next segment, if there is one.

    Raises:
        CascadeError: a part cannot be built.
    """
    telemetry = Telemetry(config)
    new_name_claim(telemetry.application, run).check()
    claims = _claim_ports(config, telemetry.application)  # before the models load, so that a taken port is found early
    store = RayStore(telemetry.application, run)
    store.drop_other_runs()
    client = None if next_segment is None else SegmentClient(next_segment, segment_name(config, 1))
    auditor = _new_auditor(config, store)
    batcher = new_batcher(config, folder, 0, client, telemetry, auditor)
    service = GatewayService(
        config,
        telemetry,
        batcher,
        _new_policy_keeper(config, policies_json, store, batcher, telemetry.application),
        auditor,
        batcher.answer if client is None else client.answer,
        Readiness(None if client is None else client.probe),
        None if config.serving.review is None else Review(config.serving.review, config.classes),
    )
    return _with_listeners(service, claims)


def _new_auditor(config: CascadeConfig, store: RayStore) -> Auditor:
    return Auditor(
        config.serving.audit,
        len(config.stages),
        len(config.segments[0]),
        max_gateways(config),
        config.serving.request_timeout_s,
        start=store.next_number("gateway"),
    )


def _new_policy_keeper(
    config: CascadeConfig, policies_json: str, store: RayStore, batcher: Batcher, application: str
) -> PolicyKeeper:
    return PolicyKeeper(
        PolicySet.from_json(policies_json),
        config.stages,
        config.serving.gears,
        PolicyLog(store),
        functools.partial(try_out, batcher, example_row(config.rows)),
        functools.partial(_call_all_gateways, application, "follow_policy"),
    )


def _claim_ports(config: CascadeConfig, application: str) -> tuple[PortClaim, ...]:
    """Claims the ports of the gateway's own listeners.

    Raises:
        ConfigError: another cascade or program has a port.
    """
    serving = config.serving
    ports = (serving.port if serving.listener == "own" else None, serving.grpc_port)
    claims = [PortClaim(serving.host, port, application, cluster_address()) for port in ports if port is not None]
    for claim in claims:
        claim.take()
    return tuple(claims)


def _with_listeners(service: GatewayService, claims: tuple[PortClaim, ...]) -> GatewayParts:
    """Puts the HTTP application and the listeners in front of a service."""
    serving, telemetry = service.config.serving, service.telemetry
    guard = Guard.from_config(serving)
    app = HttpApp(service, guard, telemetry.stats, telemetry.tracing)
    bodies = PendingBodies(serving.max_pending_body_bytes)
    listeners: list[Listener | GrpcListener] = []
    if serving.listener == "own":
        listeners.append(Listener(app, serving, bodies))
    if serving.grpc_port is not None:
        listeners.append(GrpcListener(service, guard, serving.grpc_port, telemetry.stats, bodies))
    return GatewayParts(service, app, bodies, tuple(listeners), claims)


async def _call_all_gateways(application: str, method: str) -> None:
    """Calls a method of all gateways, including the calling one; errors are ignored."""
    gateways = serve.get_deployment_handle("gateway", application)
    await gateways.broadcast(method).results_async(timeout_s=BROADCAST_S, return_exceptions=True)
