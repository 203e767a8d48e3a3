"""The rows that are drawn for the audit."""

import math
from dataclasses import dataclass

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy

__all__ = ["Draw", "DrawnRow", "RowSampler"]


class RowSampler:
    """Draws each row independently, with the same probability.

    Args:
        share: that probability, in [0, 1].
        seed: random by default.
    """

    def __init__(self, share: float, seed: int | None = None) -> None:
        self._share = share
        self._rng = np.random.default_rng(seed)
        self._rows_to_next = self._gap()

    def places(self, rows: int) -> list[int]:
        """Places of the drawn rows among the next ``rows`` rows; mostly none, at the cost of a subtraction."""
        places: list[int] = []
        self._rows_to_next -= rows
        while self._rows_to_next <= 0:
            places.append(int(rows + self._rows_to_next - 1))
            self._rows_to_next += self._gap()
        return places

    def _gap(self) -> float:
        """Rows from one drawn row to the next."""
        return float(self._rng.geometric(self._share)) if self._share else math.inf


@dataclass(eq=False, slots=True)
class DrawnRow:
    """A drawn row, and its answer once it has one.

    Attributes:
        policy: that routes it.
        row: (1, ...), a copy.
        stage: index of the stage that answered it; ``None`` before.
        answer: of that stage.
        lost: whether it cannot be audited: its request failed, or it has a degraded answer.
    """

    policy: Policy
    row: np.ndarray
    stage: int | None = None
    answer: int = -1
    lost: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it has its answer, or is lost."""
        return self.lost or self.stage is not None


@dataclass(frozen=True)
class Draw:
    """The drawn rows of one request.

    Attributes:
        places: in the request.
        rows: one for each place.
    """

    places: list[int]
    rows: list[DrawnRow]

    def settle(self, answers: Answers) -> None:
        """Adds the answers of the request; a degraded one was not the cascade's choice."""
        for place, row in zip(self.places, self.rows, strict=True):
            row.answer = int(answers.answer[place])
            row.lost = answers.degraded is not None and bool(answers.degraded[place])
            row.stage = int(answers.stage[place])

    def lose(self) -> None:
        """The request was not answered."""
        for row in self.rows:
            row.lost = True
