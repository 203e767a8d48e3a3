"""The configuration of the audit and of the watched rates."""

from typing import Annotated

from pydantic import Field

from cascade.config.fields import ConfigModel

__all__ = ["AuditConfig"]


class AuditConfig(ConfigModel):
    """How served answers are compared with the last stage's, and the traffic with the calibration data.

    Rates that cost nothing to measure are always monitored. Rows are sent to the last stage only if ``share`` is above
    0.

    Attributes:
        share: share of all rows that are sampled, in [0, 1]. Sampled rows that the last stage did not answer are sent
            to it afterwards.
        delta: probability of any false alarm, over all times, rates, policies, gateways and their restarts, in (0, 1).
        least_agreement: minimum agreement with the last stage, in [0, 1]; by default the certificate's guarantee, or
            without one a lower confidence bound from the calibration data.
        rate_tolerance: maximum difference between a stage's share of deferred rows and that in the calibration data.
        max_queue_rows: sampled rows that may wait; sampling pauses while the queue is full.
        max_batch_rows: sampled rows per call of the last stage.
        busy_time_share: share of the time that the audit may use while requests wait as well, in [0, 1]; at 0 it runs
            only while no request waits.
    """

    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    least_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    rate_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_queue_rows: Annotated[int, Field(ge=1)] = 256
    max_batch_rows: Annotated[int, Field(ge=1)] = 8
    busy_time_share: Annotated[float, Field(ge=0, le=1)] = 0.01
