"""A figure of an experiment, beside the value that is sought."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Comparison", "Figure", "Figures", "FiguresOf", "Found"]

Found = dict[str, Any]
"""What an experiment has measured: plain values and arrays, ready for JSON after :func:`plain`."""
Comparison = Literal["<=", ">=", "=="]


@dataclass(frozen=True)
class Figure:
    """One number of a result.

    Attributes:
        value: measured; ``None`` where there was nothing to measure.
        sought: limit for the value; ``None`` for a figure without one.
        comparison: of the value with the limit.
    """

    value: float | None
    sought: float | None = None
    comparison: Comparison = "<="

    @property
    def satisfied(self) -> bool | None:
        """Whether the value is within the limit; ``None`` without a limit, false without a value."""
        if self.sought is None:
            return None
        if self.value is None:
            return False
        within = {"<=": self.value <= self.sought, ">=": self.value >= self.sought, "==": self.value == self.sought}
        return bool(within[self.comparison])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the verdict."""
        return {**vars(self), "satisfied": self.satisfied}


Figures = dict[str, Figure]
"""By the name of the figure, as a page prints it."""
FiguresOf = Callable[[Found], Figures]
