"""Detections: the boxes that were found in an image, and what it cost to find them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cascade.html_table import html_table

__all__ = ["Detections"]


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects in one image.

    Attributes:
        boxes: (n, 4) float64, (x, y, width, height) in pixels of the upright image, the most confident one first.
        confidence: (n,) float64 in [0, 1], calibrated, of the stage that answered.
        label: name of the class of the objects.
        height: of the upright image, in pixels.
        width: of the upright image, in pixels.
        windows: number of windows of the image.
        positives: number of windows that the cascade answered positively, before non-maximum suppression.
        abstained: number of windows that the last stage abstained on; they are no boxes.
        degraded: number of windows with the answer of a stage that deferred them, because no later stage answered or
            was allowed to.
        answered: number of windows that each stage answered, by its name.
        cost: of all stages on all windows, in ``cost_unit``.
        cost_unit: of the policy.
        policy_version: of the policy.
        note: what is unusual about the image or the answer; "" for nothing.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    label: str
    height: int
    width: int
    windows: int = 0
    positives: int = 0
    abstained: int = 0
    degraded: int = 0
    answered: Mapping[str, int] = field(default_factory=dict)
    cost: float = 0.0
    cost_unit: str = "ms"
    policy_version: str = ""
    note: str = ""

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        by = ", ".join(f"{count} by {stage}" for stage, count in self.answered.items())
        return (
            f"Detections({len(self)} x {self.label} in {self.width} x {self.height} pixels; {self.windows} windows"
            f"{f': {by}' if by else ''}{f'; {self.note}' if self.note else ''})"
        )

    def _repr_html_(self) -> str:
        rows = [
            (*(round(value, 1) for value in box), confidence)
            for box, confidence in zip(self.boxes.tolist(), self.confidence.tolist(), strict=True)
        ]
        by = ", ".join(f"{count} by {stage}" for stage, count in self.answered.items())
        notes = [f"{self.windows} windows: {by}" if by else f"{self.windows} windows", self.note]
        header = ("x", "y", "width", "height", "confidence")
        return html_table(f"{len(self)} x {self.label} in {self.width} x {self.height} pixels", header, rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: "boxes" is a list of {"box": [x, y, width, height], "confidence", "label"}."""
        found = zip(self.boxes.tolist(), self.confidence.tolist(), strict=True)
        facts = ("height", "width", "windows", "positives", "abstained", "degraded", "cost", "cost_unit")
        return {
            "boxes": [{"box": box, "confidence": confidence, "label": self.label} for box, confidence in found],
            "answered": dict(self.answered),
            **{name: getattr(self, name) for name in (*facts, "policy_version", "note")},
        }
