"""From a configuration and a policy to a Ray Serve application."""

import uuid
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from cascade.calibration import Policy, PolicySet
from cascade.config import CascadeConfig, StageConfig
from cascade.errors import ConfigError
from cascade.serving.guard import check_exposure
from cascade.serving.policy_keeper import check_policies
from cascade.serving.replicas import Gateway, SegmentReplica, segment_name

__all__ = ["ServeArguments", "build_app", "new_application"]

# For ``num_replicas: auto``. A call is a whole batch: one runs, one waits, and the rest want another replica.
# A burst is short, so replicas come soon; models load slowly, so they go late.
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 16,
    "target_ongoing_requests": 2,
    "upscale_delay_s": 3.0,
    "downscale_delay_s": 120.0,
}

# Ray Serve's own default of 5 calls at a time would starve the batches.
MAX_ONGOING_REQUESTS = 10_000


class ServeArguments(BaseModel):
    """Arguments of :func:`build_app`.

    Attributes:
        config: path of the configuration.
        policy: path of the policy or policy set; by default the one that the configuration names.
    """

    model_config = ConfigDict(extra="forbid")

    config: str
    policy: str | None = None


def build_app(arguments: ServeArguments) -> serve.Application:
    """The application, for ``serve run cascade.serving.application:build_app config=...``."""
    config = CascadeConfig.load(arguments.config)
    policy = PolicySet.load(arguments.policy or config.policy)
    return new_application(config, policy, Path(arguments.config).resolve().parent)


def new_application(config: CascadeConfig, policy: Policy | PolicySet, folder: Path) -> serve.Application:
    """Binds a deployment a segment: the gateway, and each later segment into the one before it.

    Args:
        config: of the cascade.
        policy: to begin with.
        folder: where relative paths and the user's modules are; the same on every node.

    Raises:
        PolicyError: the policy is of other stages, was calibrated with other models, or is below the operator's floor.
        ConfigError: Ray Serve refuses a key of a stage's ``deployment``, or cannot scale gateways that listen
            themselves; or the network would be served without keys.
    """
    check_exposure(config.serving)
    policies = policy if isinstance(policy, PolicySet) else PolicySet((policy,))
    check_policies(policies, config.stages, config.serving.gears)
    if config.serving.listener == "own":
        _check_gateways_are_counted(config.segments[0][0])
    following: Any = None
    for index in reversed(range(1, len(config.segments))):
        deployment = _deployment(SegmentReplica, segment_name(config, index), 1, config.segments[index])
        following = deployment.bind(config, folder, index, following)
    gateway = _deployment(Gateway, "gateway", config.serving.gateways, config.segments[0])
    # Each start has a history of its own, which begins with the policy that it is given.
    run = uuid.uuid4().hex
    application: serve.Application = gateway.bind(config, folder, policies.to_json(), run, following)
    return application


def _check_gateways_are_counted(stage: StageConfig) -> None:
    """Ray Serve scales by the calls that it routes, and requests to a gateway's own listener are none."""
    asked = stage.deployment
    if "autoscaling_config" in asked or asked.get("num_replicas") == "auto":
        raise ConfigError(
            f"stage {stage.name!r}: Ray Serve cannot scale gateways that listen themselves; set serving.gateways to "
            "a number, or serving.listener to 'serve'"
        )


def _deployment(replica: type, name: str, replicas: int, stages: tuple[StageConfig, ...]) -> serve.Deployment:
    options: dict[str, Any] = {"max_ongoing_requests": MAX_ONGOING_REQUESTS, "num_replicas": replicas}
    options |= stages[0].deployment
    if "autoscaling_config" in options and "num_replicas" not in stages[0].deployment:
        del options["num_replicas"]
    if options.get("num_replicas") == "auto":
        asked = options.get("autoscaling_config") or {}
        if isinstance(asked, dict):
            options["autoscaling_config"] = AUTOSCALING | asked
    try:
        deployment: serve.Deployment = serve.deployment(name=name, **options)(replica)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"stage {stages[0].name!r}: Ray Serve refuses its 'deployment': {error}") from error
    return deployment
