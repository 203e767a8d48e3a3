"""The answers of a cascade for a batch of rows."""

from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.policies.policy import Policy
from cascade.routers import Evidence, abstained

__all__ = ["PENDING", "Answers"]

PENDING = -1
"""Stage of a row that no stage has accepted yet."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a cascade, or of a part of it, for n rows.

    Attributes:
        answer: (n,) int64, the class; for a pending row, that of the last stage that ran on it.
        stage: (n,) int64, index of the stage that answered, or ``PENDING``.
        confidence: (n,) float64 in [0, 1], calibrated, of the last stage that ran on the row.
        cost: (n,) float64, cost of all stages that ran on the row.
        evidence: of the p pending rows, in their order, for the next segment; ``None`` if the policy has neither heads
            nor early-deferral thresholds.
        degraded: (n,) bool, rows with the answer of a stage that deferred them, because no later stage answered or was
            allowed to; ``None`` if there are none.
        abstained: (n,) bool, rows that the last stage ran on and abstained from: ``answer`` is the best guess, and a
            person decides; ``None`` before :meth:`with_abstentions`, or if there are none.
    """

    answer: np.ndarray
    stage: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray
    evidence: Evidence | None = None
    degraded: np.ndarray | None = None
    abstained: np.ndarray | None = None

    @classmethod
    def empty(cls, n: int) -> "Answers":
        """n pending rows that no stage has run on."""
        return cls(np.full(n, -1), np.full(n, PENDING), np.zeros(n), np.zeros(n))

    def __len__(self) -> int:
        return len(self.answer)

    def __repr__(self) -> str:
        stages, counts = np.unique(self.stage, return_counts=True)
        by = ", ".join(
            f"{count} {'pending' if stage == PENDING else f'by stage {stage}'}"
            for stage, count in zip(stages.tolist(), counts.tolist(), strict=True)
        )
        return f"Answers({len(self)} rows{f': {by}' if by else ''})"

    def take(self, rows: np.ndarray | slice) -> "Answers":
        """The answers of some rows, without evidence."""
        degraded = None if self.degraded is None else self.degraded[rows]
        return Answers(self.answer[rows], self.stage[rows], self.confidence[rows], self.cost[rows], degraded=degraded)

    def with_abstentions(self, policy: Policy) -> "Answers":
        """The answers of a whole cascade, with abstained rows marked.

        The answers determine these rows, so they are marked once, when the answers leave the cascade. A degraded row
        has the answer of an earlier stage, and is not abstained.

        Args:
            policy: of the answers.
        """
        if not policy.abstains:
            return self
        last = len(policy.stages) - 1
        if last not in self.stage.tolist():  # most requests have one row, for which a list is much faster than NumPy
            return self
        marked = (self.stage == last) & abstained(self.confidence, policy.abstain_below)
        return replace(self, abstained=marked) if marked.any() else self

    def put(self, rows: np.ndarray, later: "Answers") -> None:
        """Overwrites some rows with the answers of a later segment, and adds its costs.

        Args:
            rows: (m,) int indices.
            later: m rows.
        """
        self.answer[rows] = later.answer
        self.stage[rows] = later.stage
        self.confidence[rows] = later.confidence
        self.cost[rows] += later.cost
