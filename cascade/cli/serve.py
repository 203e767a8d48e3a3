"""``cascade serve``: the cascade on Ray Serve, until Ctrl-C."""

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.console import JsonOption, print_result

__all__ = ["serve"]


def serve(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (YAML).")],
    policy_path: Annotated[Path | None, typer.Option("--policy", help="Policy [default: the config's].")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: the config's].")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port [default: the config's].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a cascade on Ray Serve: on a Ray of its own, or on the cluster in RAY_ADDRESS."""
    from cascade.calibration import PolicySet
    from cascade.config import CascadeConfig
    from cascade.serving.cluster import metrics_addresses, running_cascade

    config = CascadeConfig.load(config_path)
    wanted = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    config = config.model_copy(update={"serving": config.serving.model_copy(update=wanted)})
    policies = PolicySet.load(policy_path or config.policy)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running_cascade(config, policies, config_path.resolve().parent):
        segments = [[stage.name for stage in segment] for segment in config.segments]
        said: dict[str, Any] = {"serving": config.serving.url, "policy_version": policies.version, "segments": segments}
        if config.serving.grpc_port is not None:
            said["grpc"] = config.serving.authority(config.serving.grpc_port)
        if config.serving.metrics:
            said["metrics"] = metrics_addresses()
        print_result(said, as_json)
        while not stop.wait(0.5):
            pass
