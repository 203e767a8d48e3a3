"""The engine: a batch goes through stages, each answers the rows it is sure of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.policy import Policy
from cascade.routers import accepted
from cascade.stage import Stage

__all__ = ["PENDING", "Answers", "Segment"]

PENDING = -1
"""Stage of a row that no stage so far was sure of."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a cascade, or a part of it, says about n rows.

    Attributes:
        answer: (n,) int64, the class; of a pending row, that of the last stage that looked at it.
        stage: (n,) int64, index of the stage that answered, or ``PENDING``.
        confidence: (n,) float64 in [0, 1], calibrated, of the last stage that looked at the row.
        cost: (n,) float64, cost of all stages that looked at the row.
    """

    answer: np.ndarray
    stage: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray

    @classmethod
    def empty(cls, n: int) -> "Answers":
        """n rows that nobody has looked at."""
        return cls(np.full(n, -1), np.full(n, PENDING), np.zeros(n), np.zeros(n))

    def __len__(self) -> int:
        return len(self.answer)

    def take(self, rows: np.ndarray | slice) -> "Answers":
        """The answers of some rows."""
        return Answers(self.answer[rows], self.stage[rows], self.confidence[rows], self.cost[rows])

    def put(self, rows: np.ndarray, later: "Answers") -> None:
        """Writes what a later segment said over rows of these answers, and adds its cost.

        Args:
            rows: (m,) int indices.
            later: m rows.
        """
        self.answer[rows] = later.answer
        self.stage[rows] = later.stage
        self.confidence[rows] = later.confidence
        self.cost[rows] += later.cost


class Segment:
    """Consecutive stages that run in one process.

    Args:
        stages: in order.
        first: index of the first of them in the cascade.
    """

    def __init__(self, stages: Sequence[Stage], first: int = 0) -> None:
        self.stages = tuple(stages)
        self.first = first

    def run(self, rows: np.ndarray, policy: Policy) -> Answers:
        """Sends a batch through the stages.

        Every stage gets the rows that the ones before it were unsure of, as one contiguous array.

        Args:
            rows: (n, ...), n >= 0.
            policy: of the whole cascade.

        Returns:
            n answers in the order of the rows; pending where the segment's last stage was unsure, which the
            cascade's last stage never is.
        """
        answers = Answers.empty(len(rows))
        open_rows = np.arange(len(rows))
        for k, stage in enumerate(self.stages, self.first):
            if not len(open_rows):
                break
            sure = self._run_stage(k, stage, rows, policy, open_rows, answers)
            if sure.any():
                rows, open_rows = rows[~sure], open_rows[~sure]
        return answers

    def _run_stage(
        self, k: int, stage: Stage, rows: np.ndarray, policy: Policy, places: np.ndarray, answers: Answers
    ) -> np.ndarray:
        """Writes one stage's answers to their places; returns (m,) bool, the rows it is sure of."""
        prediction = stage.predict(rows)
        confidence = stage.confidence(prediction, policy.routers[k])
        threshold = policy.threshold(k)
        sure = np.ones(len(rows), dtype=bool) if threshold is None else accepted(confidence, threshold)
        cost = policy.cost[k] if prediction.cost is None else prediction.cost
        said = Answers(prediction.answer, np.where(sure, k, PENDING), confidence, np.broadcast_to(cost, len(rows)))
        answers.put(places, said)
        return sure
