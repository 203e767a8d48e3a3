"""Starting and stopping: a local Ray of our own, or a cluster that is there."""

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.calibration import Policy, PolicySet
from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.guard import Guard
from cascade.serving.ray_token import ensure_private_token
from cascade.serving.tls import new_tls_context

__all__ = ["REPLICAS_ENVIRONMENT", "metrics_addresses", "running_cascade"]

OBJECT_STORE_BYTES = 256 * 1024 * 1024

# Models run in threads of their own, so replicas need no further threads to keep their event loop free, and a call
# between them is spared two changes of thread.
REPLICAS_ENVIRONMENT = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}


@contextmanager
def running_cascade(config: CascadeConfig, policy: Policy | PolicySet, folder: Path) -> Iterator[Any]:
    """Serves a cascade while the context is open.

    Joins the cluster in ``RAY_ADDRESS``, else starts a Ray of its own that lives on this machine only: no dashboard,
    no usage statistics, a bounded object store. What was started is stopped at the end.

    Args:
        config: of the cascade.
        policy: to begin with.
        folder: of the configuration file.

    Yields:
        The handle of the gateway, with ``predict.remote(rows)``.

    Raises:
        ConfigError: a port is taken, keys or certificate cannot be used, or the cluster cannot be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # By default of 15 every other process of the machine would go before the replicas.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray
    from ray import serve

    from cascade.serving.application import new_application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    application = new_application(config, policy, folder)
    joined = bool(os.environ.get("RAY_ADDRESS"))
    if not joined:
        for port in filter(None, (config.serving.port, config.serving.grpc_port, config.serving.metrics_port)):
            _check_port(config.serving.host, port)
        # On a cluster they are those of the gateway's node, which checks them when it starts.
        Guard.from_config(config.serving)
        new_tls_context(config.serving)
        ensure_private_token()
    try:
        ray.init(**_ray_options(config, folder, joined))
    except ConnectionError as error:
        address = os.environ["RAY_ADDRESS"] if joined else "local"
        raise ConfigError(
            f"no Ray cluster can be joined at {address!r}; is it up? "
            "A cluster that asks for a token needs RAY_AUTH_MODE=token here"
        ) from error
    try:
        if config.serving.listener == "serve":
            options = {"host": config.serving.host, "port": config.serving.port}
            serve.start(proxy_location="EveryNode", http_options=options)
        else:
            serve.start(proxy_location="Disabled")
        prefix = "/" if config.serving.listener == "serve" else None
        yield serve.run(application, name=config.name, route_prefix=prefix)
    finally:
        # A Ray of our own ends with everything in it.
        serve.delete(config.name)
        ray.shutdown()


def metrics_addresses() -> list[str]:
    """Where Prometheus finds the metrics of each node of the Ray that runs, as "host:port"."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes if node["Alive"]]


def _check_port(host: str, port: int) -> None:
    """Gateways share their port, so a second cascade would share it as well, and get half of the requests."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from error


def _ray_options(config: CascadeConfig, folder: Path, joined: bool) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": {"PYTHONPATH": path, **REPLICAS_ENVIRONMENT}},
        "logging_level": "warning",
        "log_to_driver": False,
    }
    if joined:
        return options | {"address": os.environ["RAY_ADDRESS"]}
    return options | {
        "address": "local",
        "num_cpus": max(os.cpu_count() or 1, _asked_cpus(config)),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_metrics_export_port": config.serving.metrics_port,
    }


def _asked_cpus(config: CascadeConfig) -> int:
    """Logical processors of all replicas; the machine may have fewer, segments then share them."""
    asked = 0.0
    for index, segment in enumerate(config.segments):
        deployment = segment[0].deployment
        replicas = deployment.get("num_replicas", 1 if index else config.serving.gateways)
        each = deployment.get("ray_actor_options", {}).get("num_cpus", 1)
        asked += each * (replicas if isinstance(replicas, int) else 1)
    return math.ceil(asked)
