"""The configuration of OpenTelemetry traces."""

from typing import Annotated

from pydantic import Field

from cascade.config.fields import ConfigModel

__all__ = ["TracesConfig"]


class TracesConfig(ConfigModel):
    """Which requests get OpenTelemetry spans. The environment variables OTEL_EXPORTER_OTLP_... set where spans go.

    Attributes:
        sample_share: share of the requests that are sampled at random, in [0, 1].
        most_per_s: maximum number of sampled requests per second and gateway.
        continue_callers: whether a request whose ``traceparent`` header is marked as sampled gets spans as well, as
            children of the caller's span. Callers can then force a span for every request.
    """

    sample_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    most_per_s: Annotated[float, Field(gt=0)] = 10.0
    continue_callers: bool = False
