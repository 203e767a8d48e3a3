"""The engine: a batch goes through stages, each answers the rows it is sure of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.policy import Policy
from cascade.prediction import Prediction
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
        evidence: (p, 5 s) float64 of the p pending rows, in their order: what the s stages so far said, to be handed
            to the segment that goes on with them; ``None`` where the policy has no heads that look at it.
        degraded: (n,) bool, the rows whose stage was not sure of them, and is taken at its word because no later one
            answered; ``None`` if there are none.
    """

    answer: np.ndarray
    stage: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray
    evidence: np.ndarray | None = None
    degraded: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int) -> "Answers":
        """n rows that nobody has looked at."""
        return cls(np.full(n, -1), np.full(n, PENDING), np.zeros(n), np.zeros(n))

    def __len__(self) -> int:
        return len(self.answer)

    def take(self, rows: np.ndarray | slice) -> "Answers":
        """The answers of some rows, without evidence."""
        degraded = None if self.degraded is None else self.degraded[rows]
        return Answers(self.answer[rows], self.stage[rows], self.confidence[rows], self.cost[rows], degraded=degraded)

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

    def run(self, rows: np.ndarray, policy: Policy, earlier: np.ndarray | None = None) -> Answers:
        """Sends a batch through the stages.

        Every stage gets the rows that the ones before it were unsure of, as one contiguous array.

        Args:
            rows: (n, ...), n >= 0.
            policy: of the whole cascade.
            earlier: (n, 5 s), the evidence of the s stages of earlier segments, as they left it; only looked at where
                the policy has heads.

        Returns:
            n answers in the order of the rows; pending where the segment's last stage was unsure, which the
            cascade's last stage never is.
        """
        answers = Answers.empty(len(rows))
        open_rows = np.arange(len(rows))
        evidence = None
        if policy.needs_evidence:
            evidence = np.empty((len(rows), 0)) if earlier is None else earlier
        for k, stage in enumerate(self.stages, self.first):
            if not len(open_rows):
                break
            prediction = stage.predict(rows)
            if evidence is not None:
                said = stage.evidence(prediction, policy.needs_probabilities)
                evidence = np.concatenate([evidence, said], axis=1)
            confidence = stage.confidence(prediction, policy.routers[k], evidence)
            sure = self._note(k, prediction, confidence, policy, open_rows, answers)
            if sure.any():
                rows, open_rows = rows[~sure], open_rows[~sure]
                evidence = None if evidence is None else evidence[~sure]
        return replace(answers, evidence=evidence)

    def _note(
        self,
        k: int,
        prediction: Prediction,
        confidence: np.ndarray,
        policy: Policy,
        places: np.ndarray,
        answers: Answers,
    ) -> np.ndarray:
        """Writes one stage's answers to their places; returns (m,) bool, the rows it is sure of."""
        threshold = policy.threshold(k)
        sure = np.ones(len(places), dtype=bool) if threshold is None else accepted(confidence, threshold)
        cost = policy.cost[k] if prediction.cost is None else prediction.cost
        said = Answers(prediction.answer, np.where(sure, k, PENDING), confidence, np.broadcast_to(cost, len(places)))
        answers.put(places, said)
        return sure
