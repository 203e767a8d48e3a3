"""``cascade serve``: serves a cascade on Ray Serve until a signal stops it."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

if TYPE_CHECKING:
    from cascade.config import CascadeConfig

__all__ = ["serve"]


def serve(
    config_path: ConfigArgument,
    policy_path: PolicyOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="the config's")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.", show_default="the config's")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a cascade on Ray Serve: on a Ray of its own, or on the cluster in RAY_ADDRESS."""
    from cascade.calibration import PolicySet
    from cascade.config import CascadeConfig
    from cascade.serving.deploy.cluster import check_start, joins, running_cascade, stop_s
    from cascade.serving.deploy.start_up import StartStopped
    from cascade.serving.deploy.start_watch import StartWatch
    from cascade.serving.deploy.supervisor import stop_on_signals, supervised
    from cascade.serving.deploy.trial_load import TrialLoad
    from cascade.serving.policy.keeper import check_policies

    config = CascadeConfig.load(config_path)
    overrides = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    config = config.model_copy(update={"serving": config.serving.model_copy(update=overrides)})
    policies = PolicySet.load(policy_path or config.policy)
    check_start(config)
    check_policies(policies, config.stages, config.serving.gears)
    stop = supervised(stop_s(config))
    try:
        with ExitStack() as watching:
            if not joins():  # on a cluster, an aborted start must be undone first
                watching.enter_context(StartWatch(stop, TrialLoad(config_path), _print_progress))
            with running_cascade(config, policies, config_path.resolve().parent, stop, _print_progress):
                watching.close()
                stop_on_signals(stop)
                print_result(_served(config, policies.version), as_json)
                stop.wait()
                _print_progress("stopping after the requests in progress; a second signal stops at once")
    except StartStopped as stopped:
        _print_progress(str(stopped))


def _print_progress(line: str) -> None:
    typer.echo(line, err=True)


def _served(config: "CascadeConfig", policy_version: str) -> dict[str, Any]:
    """Addresses, policy version and segments of the served cascade."""
    from cascade.serving.deploy.cluster import metrics_addresses

    serving = config.serving
    served: dict[str, Any] = {
        "serving": serving.url,
        "policy_version": policy_version,
        "segments": [[stage.name for stage in segment] for segment in config.segments],
    }
    if serving.grpc_port is not None:
        served["grpc"] = serving.authority(serving.grpc_port)
    if serving.metrics:
        served["metrics"] = metrics_addresses()
    return served
