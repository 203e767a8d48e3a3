"""What Ray Serve calls the deployment of a segment."""

from cascade.config import CascadeConfig

__all__ = ["segment_name"]


def segment_name(config: CascadeConfig, index: int) -> str:
    """Name of the deployment of a segment; the first one is the gateway."""
    if index == 0:
        return "gateway"
    return "-".join(["segment", *(stage.name for stage in config.segments[index])])
