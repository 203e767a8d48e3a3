"""The configuration of gears: when a gateway moves between the policies of a set."""

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from cascade.config.fields import ConfigModel

__all__ = ["GearsConfig"]


class GearsConfig(ConfigModel):
    """When a gateway moves between the gears of a policy set, and how far.

    A floor is a guarantee that every served gear must carry in its certificate.

    Attributes:
        floor_accuracy: minimum guaranteed accuracy, in [0, 1]; ``None`` for no floor.
        floor_agreement: minimum guaranteed agreement with the last stage, in [0, 1]; ``None`` for no floor.
        floor_accuracy_drop: maximum guaranteed accuracy drop against the last stage, in [0, 1]; ``None`` for no floor.
        floor_delta: maximum delta of a certificate that counts for a floor, in (0, 1).
        step_down_wait_ms: queueing time of the oldest rows above which the gateway moves to the next cheaper gear. It
            should be longer than two full batches take in any segment, and well below the target latency.
        step_up_wait_ms: queueing time below which the gateway may move to a better gear.
        step_up_after_s: time for which the queueing time must stay below ``step_up_wait_ms`` first.
        retry_after_s: time after which a gear that was left under a load is tried again under the same load. Under a
            clearly lower load it is tried at once.
    """

    floor_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_accuracy_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    floor_delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    step_down_wait_ms: Annotated[float, Field(gt=0)] = 100.0
    step_up_wait_ms: Annotated[float, Field(gt=0)] = 50.0
    step_up_after_s: Annotated[float, Field(gt=0)] = 2.0
    retry_after_s: Annotated[float, Field(gt=0)] = 15.0

    @model_validator(mode="after")
    def _has_hysteresis(self) -> Self:
        if self.step_up_wait_ms >= self.step_down_wait_ms:
            raise ValueError(
                f"step_up_wait_ms must be less than step_down_wait_ms; got {self.step_up_wait_ms:g} and "
                f"{self.step_down_wait_ms:g}"
            )
        return self
