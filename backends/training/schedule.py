"""Schedules: numbers that change during a phase."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = ["Schedule", "Scheduled"]


class Schedule(BaseModel):
    """A value that moves from ``start`` to ``end``, and then stays constant.

    Attributes:
        start: value at the start of the phase.
        end: value from ``until`` on.
        until: share of the phase, in (0, 1].
        shape: "linear", or "exponential" (equal ratios in equal times; both values above 0).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: float
    end: float
    until: float = Field(default=1.0, gt=0, le=1)
    shape: Literal["linear", "exponential"] = "linear"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape == "exponential" and not (self.start > 0 and self.end > 0):
            raise ValueError(f"an exponential schedule needs a start and an end above 0; got {self.start}, {self.end}")
        return self

    def at(self, done: float) -> float:
        """The value after the share ``done`` of the phase, in [0, 1]."""
        share = min(done / self.until, 1.0)
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** share)
        return self.start + (self.end - self.start) * share


def _constant(value: Any) -> Any:
    return {"start": value, "end": value} if isinstance(value, (int, float)) else value


Scheduled = Annotated[Schedule, BeforeValidator(_constant)]
"""A schedule; a plain number stays constant."""
