"""From a configuration and a policy to a Ray Serve application."""

import uuid
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from cascade.calibration import Policy, PolicySet
from cascade.config import CascadeConfig, StageConfig, VariableName
from cascade.errors import ConfigError
from cascade.serving.auth.guard import check_exposure
from cascade.serving.policy.keeper import check_policies
from cascade.serving.replica.gateway_replica import GatewayReplica
from cascade.serving.replica.segment_deployment import segment_name
from cascade.serving.replica.segment_replica import SegmentReplica

__all__ = ["ServeArguments", "build_app", "deployment_options", "new_application"]

# For ``num_replicas: auto``. A call is a whole batch: one runs, one waits, and further ones need another replica.
# A burst is short, so replicas are added soon; models load slowly, so they are removed late.
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 16,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 3.0,
    "downscale_delay_s": 120.0,
}

# Ray Serve's own default of 5 calls at a time would starve the batches.
MAX_ONGOING_REQUESTS = 10_000

# Time for a replica to end, beyond the longest request.
STOP_SLACK_S = 5.0


class ServeArguments(BaseModel):
    """Arguments of :func:`build_app`.

    Attributes:
        config: path of the configuration.
        policy: path of the policy or policy set; by default the one that the configuration names.
        host: overrides the configuration's.
        keys_env: overrides the configuration's.
    """

    model_config = ConfigDict(extra="forbid")

    config: str
    policy: str | None = None
    host: str | None = None
    keys_env: VariableName | None = None


def build_app(arguments: ServeArguments) -> serve.Application:
    """The application, for ``serve run cascade.serving.application:build_app config=...``."""
    config = CascadeConfig.load(arguments.config)
    changes = arguments.model_dump(include={"host", "keys_env"}, exclude_none=True)
    config = config.model_copy(update={"serving": config.serving.model_copy(update=changes)})
    policy = PolicySet.load(arguments.policy or config.policy)
    return new_application(config, policy, Path(arguments.config).resolve().parent)


def new_application(
    config: CascadeConfig, policy: Policy | PolicySet, folder: Path, run: str | None = None
) -> serve.Application:
    """Binds one deployment per segment: the gateway, and each later segment into the one before it.

    Args:
        config: of the cascade.
        policy: to begin with.
        folder: of relative paths and the user's modules; the same on every node.
        run: id of this start; each start has a history of policies of its own, which begins with the given one.

    Raises:
        PolicyError: the policy has other stages, was calibrated with other models, or is below the operator's floor.
        ConfigError: Ray Serve refuses a key of a stage's ``deployment``, or cannot scale gateways with a listener of
            their own; or the cascade would be open to the network without keys.
    """
    check_exposure(config.serving)
    policies = policy if isinstance(policy, PolicySet) else PolicySet((policy,))
    check_policies(policies, config.stages, config.serving.gears)
    if config.serving.listener == "own":
        _check_gateways_are_counted(config.segments[0][0])
    next_segment: Any = None
    for index in reversed(range(1, len(config.segments))):
        deployment = _deployment(SegmentReplica, config, index)
        next_segment = deployment.bind(config, folder, index, next_segment)
    gateway = _deployment(GatewayReplica, config, 0)
    run = run or uuid.uuid4().hex
    application: serve.Application = gateway.bind(config, folder, policies.to_json(), run, next_segment)
    return application


def _check_gateways_are_counted(stage: StageConfig) -> None:
    """Ray Serve scales by the calls that it routes; requests to a gateway's own listener are not among them."""
    options = stage.deployment
    if "autoscaling_config" in options or options.get("num_replicas") == "auto":
        raise ConfigError(
            f"stage {stage.name!r}: Ray Serve cannot scale gateways with a listener of their own; set serving.gateways "
            "to a number, or serving.listener to 'serve'"
        )


def deployment_options(config: CascadeConfig, index: int) -> dict[str, Any]:
    """Ray Serve's options for the deployment of a segment: defaults, overridden by those of its first stage.

    Args:
        config: of the cascade.
        index: of the segment.
    """
    given = config.segments[index][0].deployment
    options: dict[str, Any] = {
        "name": segment_name(config, index),
        "num_replicas": 1 if index else config.serving.gateways,
        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
        # A gateway answers requests under way before it ends.
        "graceful_shutdown_timeout_s": config.serving.request_timeout_s + STOP_SLACK_S,
        "graceful_shutdown_wait_loop_s": 0.1,
    }
    options |= given
    if "autoscaling_config" in options and "num_replicas" not in given:
        del options["num_replicas"]
    if options.get("num_replicas") == "auto":
        scaling = options.get("autoscaling_config") or {}
        if isinstance(scaling, dict):
            options["autoscaling_config"] = AUTOSCALING | scaling
    return options


def _deployment(replica: type, config: CascadeConfig, index: int) -> serve.Deployment:
    try:
        deployment: serve.Deployment = serve.deployment(**deployment_options(config, index))(replica)
    except (TypeError, ValueError) as error:
        stage = config.segments[index][0].name
        raise ConfigError(f"stage {stage!r}: Ray Serve refuses its 'deployment': {error}") from error
    return deployment
