"""Who is told what becomes of rows."""

from typing import Protocol

import numpy as np

from cascade.calibration import Policy
from cascade.engine import Answers

__all__ = ["Observer"]


class Observer(Protocol):
    """Is called on the way of every batch: returns at once, never raises, and copies what it keeps."""

    def decided(self, policy: Policy, answers: Answers) -> None:
        """A segment has looked at the rows of a batch.

        Args:
            policy: that routed them.
            answers: pending where they go on to the next segment.
        """

    def returned(self, policy: Policy, answers: Answers, word: np.ndarray) -> None:
        """Later segments have answered rows of one caller.

        Args:
            policy: that routed them.
            answers: of m rows.
            word: (m,) int, what the segments before had last said of them.
        """
