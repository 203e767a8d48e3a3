"""A row that was drawn to be held against the last stage."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy
from cascade.engine import Answers

__all__ = ["Draw", "DrawnRow"]


@dataclass(eq=False, slots=True)
class DrawnRow:
    """A drawn row, and what becomes of it.

    Attributes:
        policy: that routes it.
        row: (1, ...), a copy.
        stage: index of the stage that answered it; ``None`` while none has.
        answer: of that stage.
        confidence: of that stage.
        lost: whether it will not be answered by a stage that was sure of it.
    """

    policy: Policy
    row: np.ndarray
    stage: int | None = None
    answer: int = -1
    confidence: float = 0.0
    lost: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it."""
        return self.lost or self.stage is not None


@dataclass(frozen=True)
class Draw:
    """The drawn rows of one request.

    Attributes:
        places: in the request.
        rows: one a place.
    """

    places: list[int]
    rows: list[DrawnRow]

    def settle(self, answers: Answers) -> None:
        """Notes the answers of the request; a degraded one was not the cascade's choice."""
        for place, row in zip(self.places, self.rows, strict=True):
            row.answer = int(answers.answer[place])
            row.confidence = float(answers.confidence[place])
            row.lost = answers.degraded is not None and bool(answers.degraded[place])
            row.stage = int(answers.stage[place])

    def lose(self) -> None:
        """The request was not answered."""
        for row in self.rows:
            row.lost = True
