"""The deployment of a segment in Ray Serve: its name, its largest number of replicas, and errors at its start."""

import contextlib
from collections.abc import Iterator

from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.serving.errors import StartFailed

__all__ = ["max_gateways", "max_replicas", "segment_name", "start_errors", "uses_gpu"]

# Of a segment that is scaled without a bound of its own.
DEFAULT_MAX_REPLICAS = 100


def segment_name(config: CascadeConfig, index: int) -> str:
    """Name of the deployment of a segment; the first one is the gateway."""
    if index == 0:
        return "gateway"
    return "-".join(["segment", *(stage.name for stage in config.segments[index])])


def max_replicas(config: CascadeConfig, index: int) -> int:
    """Largest number of replicas of a segment; 1 if there is no such segment."""
    options = config.segments[index][0].deployment if index < len(config.segments) else {}
    count = options.get("num_replicas", 1)
    scaling = options.get("autoscaling_config") or {}
    return count if isinstance(count, int) and not scaling else int(scaling.get("max_replicas", DEFAULT_MAX_REPLICAS))


def max_gateways(config: CascadeConfig) -> int:
    """Largest number of gateways."""
    options = config.segments[0][0].deployment
    is_set = "num_replicas" in options or "autoscaling_config" in options
    return max_replicas(config, 0) if is_set else config.serving.gateways


def uses_gpu(config: CascadeConfig, index: int) -> bool:
    """Whether replicas of a segment require a GPU."""
    options = config.segments[index][0].deployment.get("ray_actor_options") or {}
    return bool(options.get("num_gpus"))


@contextlib.contextmanager
def start_errors(config: CascadeConfig, index: int) -> Iterator[None]:
    """Turns any error that keeps a replica of a segment from starting into one message.

    Raises:
        StartFailed: there was an error; the message names the segment's stages.
    """
    process = f"the process of {', '.join(stage.name for stage in config.segments[index])}"
    try:
        yield
    except CascadeError as error:
        raise StartFailed(f"{process} cannot start: {error}") from None
    except Exception as error:
        raise StartFailed(f"{process} cannot start: {type(error).__name__}: {error}") from None
