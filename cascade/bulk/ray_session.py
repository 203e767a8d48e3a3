"""The Ray of a bulk job: one of its own on this machine, or a cluster that is joined."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.bulk.ray_run import RayRun
from cascade.bulk.segments import with_bulk_segments
from cascade.calibration import Policy
from cascade.config import CascadeConfig
from cascade.errors import CascadeError, ConfigError
from cascade.serving.deploy.cluster import OWN_RAY_ENVIRONMENT
from cascade.serving.deploy.ray_token import ensure_private_token
from cascade.serving.deploy.resources import check_machine, report_missing

__all__ = ["ray_run", "worker_counts"]

OBJECT_STORE_BYTES = 512 << 20
"""Of a Ray of its own: rows between processes, a few parts for each worker."""

Progress = Callable[[str], None]


@contextmanager
def ray_run(
    config: CascadeConfig, policy: Policy, folder: Path, address: str | None, reads_images: bool, progress: Progress
) -> Iterator[RayRun]:
    """Starts or joins a Ray and the workers of all segments; ends what was started.

    A Ray of its own has no dashboard, no usage statistics, a bounded object store, and its ports are bound to loopback.
    Variables of Ray in the environment have precedence.

    Args:
        config: of the cascade.
        policy: of the cascade.
        folder: of the configuration file, on a cluster the same on every node; as is the input.
        address: of a cluster, as for ``ray.init``; ``None`` starts a Ray.
        reads_images: whether readers decode images, which takes as much as a small model.
        progress: called with a line for each wait.

    Raises:
        ConfigError: the cluster cannot be joined, or the machine lacks what a stage requests.
        CascadeError: Ray cannot start.
    """
    config = with_bulk_segments(config)
    for name, value in OWN_RAY_ENVIRONMENT.items():
        if address is None or name.startswith("RAY_USAGE"):
            os.environ.setdefault(name, value)
    if address is None:
        check_machine(config)
        ensure_private_token()
    progress("Ray: starting" if address is None else f"Ray: joining {address}")
    import ray

    try:
        ray.init(**_ray_options(config, folder, address))
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster can be joined at {address!r}; is it up? "
            "A cluster that requires a token needs RAY_AUTH_MODE=token here"
        ) from error
    except Exception as error:  # Ray has no class for a node that does not start in time
        ray.shutdown()
        raise CascadeError(f"Ray cannot start: {error}") from error
    try:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if address is not None:
            report_missing(config, progress)
        processors = _processors() if address is None else max(1, int(resources.get("CPU", 1)))
        workers = worker_counts(config, processors, resources.get("GPU", 0), is_shared=address is not None)
        readers = processors if reads_images else max(1, processors // 2)
        named = zip(config.segments, workers, strict=True)
        progress("workers: " + "; ".join(f"{count} for {', '.join(s.name for s in part)}" for part, count in named))
        yield RayRun(config, policy, folder, workers, readers)
    finally:
        ray.shutdown()


def worker_counts(config: CascadeConfig, processors: int, gpus: float, is_shared: bool) -> list[int]:
    """Workers of each segment: as many as its first stage asks for, else as there are GPUs or processors for it.

    Args:
        config: with segments.
        processors: of the machine or the cluster.
        gpus: likewise; the segments that use them share them.
        is_shared: whether the segments share the processors, too. Ray starts no more workers on a cluster than it has
            processors; on this machine alone every segment has workers for all of them, since the busy ones take the
            time of the others.
    """
    requested = [segment[0].deployment.get("ray_actor_options") or {} for segment in config.segments]
    with_gpu = sum(bool(options.get("num_gpus")) for options in requested)
    counts = []
    for segment, options in zip(config.segments, requested, strict=True):
        deployment = segment[0].deployment
        count, scaling = deployment.get("num_replicas"), deployment.get("autoscaling_config") or {}
        if not isinstance(count, int):
            count = scaling.get("max_replicas")
        if not isinstance(count, int) and options.get("num_gpus"):
            count = int(gpus / with_gpu / options["num_gpus"])
        elif not isinstance(count, int):
            count = int(processors / (len(requested) if is_shared else 1) / (options.get("num_cpus") or 1))
        counts.append(max(1, count))
    return counts


def _processors() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ray_options(config: CascadeConfig, folder: Path, address: str | None) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {"logging_level": "warning", "log_to_driver": False}
    if address is not None:
        return options | {"address": address, "runtime_env": {"env_vars": {"PYTHONPATH": path}}}
    os.environ["PYTHONPATH"] = path  # of Ray's processes: a runtime environment would start them anew
    processors = _processors()
    requested = [
        ((segment[0].deployment.get("ray_actor_options") or {}).get("num_cpus") or 1) for segment in config.segments
    ]
    return options | {
        "address": "local",
        "num_cpus": len(config.segments) * max(processors, *map(int, requested)) + 1,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
