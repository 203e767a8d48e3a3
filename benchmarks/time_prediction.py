"""Predicted and realised time of a cascade."""

from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_OFF", "TimePrediction"]

MOST_OFF = 1.25


@dataclass(frozen=True)
class TimePrediction:
    """Milliseconds per row of the stages of a cascade.

    Attributes:
        predicted_ms: by the cost curves of its policy, at the shares of its calibration.
        realised_ms: measured.
        arrivals: how the rows arrived, in words.
    """

    predicted_ms: float
    realised_ms: float
    arrivals: str

    @property
    def ratio(self) -> float:
        """Predicted over realised time."""
        return self.predicted_ms / self.realised_ms

    @property
    def warning(self) -> str | None:
        """A sentence where the two differ by more than a quarter, ``None`` otherwise."""
        if 1 / MOST_OFF <= self.ratio <= MOST_OFF:
            return None
        return (
            f"predicted and realised time differ by more than a quarter (ratio {self.ratio:.2f}): other rows, another "
            "machine, other threads or a busy one; measure the curves again with 'cascade collect' where it runs"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**vars(self), "ratio": self.ratio, "warning": self.warning}
