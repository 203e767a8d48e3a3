"""Starting and stopping: a local Ray that this process starts, or an existing cluster."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cascade.calibration import Policy, PolicySet
from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.auth.guard import Guard, check_exposure
from cascade.serving.auth.tls import new_tls_context
from cascade.serving.deploy.ray_token import ensure_private_token
from cascade.serving.deploy.resources import check_machine, report_missing, required_cpus
from cascade.serving.deploy.start_up import Progress, wait_until_running
from cascade.serving.replica.port_claim import check_port

__all__ = [
    "OWN_RAY_ENVIRONMENT",
    "REPLICAS_ENVIRONMENT",
    "check_start",
    "joins",
    "metrics_addresses",
    "running_cascade",
    "stop_s",
]

OBJECT_STORE_BYTES = 256 * 1024 * 1024

# Models run in threads of their own, so replicas need no further threads to keep their event loop free, and a call
# between them needs two thread switches fewer.
REPLICAS_ENVIRONMENT = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}

# Of a local Ray; the environment overrides it.
OWN_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # With the default of 15 every other process of the machine would have a higher priority than the replicas.
    "RAY_worker_niceness": "0",
    # Makes 127.0.0.1 the address of the node, so that its ports are bound to loopback (docs/security.md).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # The control loop of Ray Serve runs ten times per second by default (docs/operate.md).
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
}

DELETE_S = 15.0
"""Time for Ray Serve to end the replicas once no request is under way."""

KILL_POLL_S = 0.2

logger = logging.getLogger(__name__)


def stop_s(config: CascadeConfig) -> float:
    """Seconds within which a served cascade has stopped, however long the requests under way take."""
    return config.serving.request_timeout_s + DELETE_S


def check_start(config: CascadeConfig) -> None:
    """Checks, without Ray, that a cascade can listen where it is configured to; on a cluster the gateways do that.

    Raises:
        ConfigError: a port is taken, keys or certificate cannot be used, or the cascade would be open to the network
            without keys.
    """
    check_exposure(config.serving)
    if joins():
        return
    for port in filter(None, (config.serving.port, config.serving.grpc_port, config.serving.metrics_port)):
        check_port(config.serving.host, port)
    Guard.from_config(config.serving)
    new_tls_context(config.serving)


@contextmanager
def running_cascade(
    config: CascadeConfig,
    policy: Policy | PolicySet,
    folder: Path,
    stop: threading.Event | None = None,
    progress: Progress = logger.info,
) -> Iterator[Any]:
    """Serves a cascade while the context is open.

    Joins the cluster in ``RAY_ADDRESS``, else starts a local Ray: no dashboard, no usage statistics, a bounded object
    store, its ports bound to loopback. At the end the gateways take no further requests and answer those under way, for
    ``serving.request_timeout_s`` at most; then everything that was started is stopped.

    Args:
        config: of the cascade.
        policy: to begin with.
        folder: of the configuration file.
        stop: ends the wait for the replicas.
        progress: called with a line for each wait.

    Yields:
        The handle of the gateway, with ``predict.remote(rows)``.

    Raises:
        ConfigError: a port or the name is taken, keys or certificate cannot be used, the cluster cannot be joined, or a
            stage cannot start.
        StartStopped: ``stop`` was set before the cascade was up.
    """
    progress("Ray: joining the cluster" if joins() else "Ray: starting")
    for name, value in OWN_RAY_ENVIRONMENT.items():
        if not joins() or name.startswith("RAY_USAGE"):
            os.environ.setdefault(name, value)
    import ray

    from cascade.serving.deploy.application import new_application

    check_start(config)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    run = uuid.uuid4().hex
    application = new_application(config, policy, folder, run)
    if not joins():
        check_machine(config)
        ensure_private_token()
    _init_ray(config, folder)
    try:
        with _claimed_name(config, run):
            _start_serve(config)
            with _deployed(config, application, stop or threading.Event(), progress) as handle:
                yield handle
    finally:
        # A local Ray ends with all its processes.
        ray.shutdown()


@contextmanager
def _deployed(config: CascadeConfig, application: Any, stop: threading.Event, progress: Progress) -> Iterator[Any]:
    """Deploys an application, yields the handle of its gateway when it is up, and drains and deletes it at the end."""
    from ray import serve
    from ray.serve.api import _run as deploy

    prefix = "/" if config.serving.listener == "serve" else None
    handle = deploy(application, name=config.name, route_prefix=prefix, _blocking=False)
    is_up = False
    try:
        if joins():
            report_missing(config, progress)
        wait_until_running(config, stop, progress)
        is_up = True
        yield handle
        _drain(config, handle)
    finally:
        if joins() and not is_up:
            _end_replicas(config.name)
        if joins() or is_up:
            serve.delete(config.name)


def joins() -> bool:
    """Whether a cascade is served on an existing cluster."""
    return bool(os.environ.get("RAY_ADDRESS"))


def _init_ray(config: CascadeConfig, folder: Path) -> None:
    import ray

    try:
        ray.init(**_ray_options(config, folder, joins()))
    except ConnectionError as error:
        address = os.environ["RAY_ADDRESS"] if joins() else "local"
        raise ConfigError(
            f"no Ray cluster can be joined at {address!r}; is it up? "
            "A cluster that requires a token needs RAY_AUTH_MODE=token here"
        ) from error


def _start_serve(config: CascadeConfig) -> None:
    from ray import serve

    if config.serving.listener == "serve":
        options = {"host": config.serving.host, "port": config.serving.port}
        serve.start(proxy_location="EveryNode", http_options=options)
    else:
        serve.start(proxy_location="Disabled")


@contextmanager
def _claimed_name(config: CascadeConfig, run: str) -> Iterator[None]:
    """Holds the name of the application on the cluster.

    Raises:
        ConfigError: a running cascade has it, or Ray Serve's own command has deployed an application of this name.
    """
    import ray
    from ray import serve

    from cascade.serving.replica.name_claim import new_name_claim

    claim = new_name_claim(config.name, run)
    was_stale = claim.take(ray.get_runtime_context().get_job_id())
    try:
        if joins() and not was_stale and config.name in serve.status().applications:
            raise ConfigError(
                f"the cluster runs an application {config.name!r} already, deployed with Ray Serve's own command; give "
                f"this one another 'name', or delete that one"
            )
        yield
    finally:
        with suppress(Exception):  # the cluster may be gone
            claim.release()


def _end_replicas(name: str) -> None:
    """Ends the replicas of an application that never was up.

    Ray Serve would wait for a replica that loads, or that fits on no node, as long as for one that answers requests.
    """
    import ray
    from ray import serve
    from ray.util import list_named_actors

    serve.delete(name, _blocking=False)  # first, or it would replace them
    end = time.monotonic() + DELETE_S
    while name in serve.status().applications and time.monotonic() < end:
        # Ray Serve does not list the replicas of a deleted application that wait for a node; Ray does.
        for actor in list_named_actors(all_namespaces=True):
            if actor["name"].startswith(f"SERVE_REPLICA::{name}#"):
                with suppress(ValueError):  # it has ended meanwhile
                    ray.kill(ray.get_actor(**actor))
        time.sleep(KILL_POLL_S)


def _drain(config: CascadeConfig, handle: Any) -> None:
    """Lets all gateways answer requests under way, while the later segments still run."""
    try:
        handle.broadcast("drain").results(timeout_s=stop_s(config), return_exceptions=True)
    except Exception as error:  # the cluster, or all gateways, are gone
        logger.warning("the gateways cannot be stopped in order: %s: %s", type(error).__name__, error)


def metrics_addresses() -> list[str]:
    """Addresses of the metrics of each node of the running Ray, as "host:port"."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes if node["Alive"]]


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
        "num_cpus": max(os.cpu_count() or 1, required_cpus(config)),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_metrics_export_port": config.serving.metrics_port,
    }
