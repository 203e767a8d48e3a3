"""What a batcher reports about the rows that it routes."""

from typing import Protocol

import numpy as np

from cascade.answers import Answers
from cascade.calibration import Policy

__all__ = ["Observer"]


class Observer(Protocol):
    """Called for every batch of rows that may go to all stages.

    Both methods run between requests: they must return at once, must not raise, and must copy what they keep.
    """

    def decided(self, policy: Policy, answers: Answers) -> None:
        """A segment has run on the rows of a batch.

        Args:
            policy: that routed them.
            answers: pending where the rows go on to the next segment.
        """

    def returned(self, policy: Policy, answers: Answers, previous_answer: np.ndarray) -> None:
        """Later segments have answered rows of one caller.

        Args:
            policy: that routed them.
            answers: of m rows.
            previous_answer: (m,) int, of the last stage before the later segments.
        """
