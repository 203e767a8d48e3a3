"""Evidence: what the stages so far returned for a row, as a few numbers that travel on with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from cascade.routers.scores import SCORES

__all__ = ["EVIDENCE_COLUMNS", "Evidence", "EvidenceColumn", "new_evidence"]


class EvidenceColumn(IntEnum):
    """Column of the evidence of one stage; the scores are those of :data:`cascade.routers.SCORES`."""

    ANSWER = 0
    CONFIDENCE = 1
    MAXIMUM_PROBABILITY = 2
    MARGIN = 3
    NEGATIVE_ENTROPY = 4


EVIDENCE_COLUMNS = tuple(column.name.lower() for column in EvidenceColumn)
"""Columns of one stage; the evidence of several stages stands side by side, the earliest first."""

SCORE_COLUMNS = (EvidenceColumn.MAXIMUM_PROBABILITY, EvidenceColumn.MARGIN, EvidenceColumn.NEGATIVE_ENTROPY)


def new_evidence(answer: np.ndarray, confidence: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    """The evidence of one stage.

    Args:
        answer: (n,) int.
        confidence: (n,) in [0, 1], before calibration: what a score table holds.
        probabilities: (n, C), C >= 2, or ``None``; then the columns of the scores are NaN.

    Returns:
        (n, 5) float64, columns as in :class:`EvidenceColumn`.
    """
    evidence = np.full((len(answer), len(EvidenceColumn)), np.nan)
    evidence[:, EvidenceColumn.ANSWER] = answer
    evidence[:, EvidenceColumn.CONFIDENCE] = confidence
    if probabilities is not None:
        # As in Router: the same bits from a score table and from a served row.
        exact = np.ascontiguousarray(probabilities, dtype=np.float64)
        for column in SCORE_COLUMNS:
            evidence[:, column] = SCORES[column.name.lower()](exact)
    return evidence


@dataclass(frozen=True, eq=False)
class Evidence:
    """What travels with n deferred rows from one segment to the next.

    Attributes:
        stages: (n, 5 s) float64, of the s stages so far, each as :func:`new_evidence` returns it; ``None`` where the
            policy has no heads.
        deferred_early: (n,) bool, the rows that go to the last stage at once; ``None``, like the two that follow, where
            the policy has no early-deferral thresholds.
        answer: (n,) int64, of the last stage that ran on the row; -1 if none did.
        confidence: (n,) float64 in [0, 1], of the same stage.
    """

    stages: np.ndarray | None = None
    deferred_early: np.ndarray | None = None
    answer: np.ndarray | None = None
    confidence: np.ndarray | None = None

    def __len__(self) -> int:
        return next(len(values) for values in self._fields() if values is not None)

    def take(self, rows: np.ndarray | slice) -> "Evidence":
        """The evidence of some rows."""
        return Evidence(*(None if values is None else values[rows] for values in self._fields()))

    @classmethod
    def join(cls, parts: "Sequence[Evidence]") -> "Evidence":
        """Evidence of rows of one policy, at least one part, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part._fields() for part in parts), strict=True)
        return cls(*(None if column[0] is None else np.concatenate(column) for column in columns))

    def to_array(self) -> np.ndarray:
        """The form in which it travels: (n, W) float64, contiguous, W = 5 s, and 3 more for early deferral."""
        parts = [] if self.stages is None else [self.stages]
        if self.deferred_early is not None and self.answer is not None and self.confidence is not None:
            parts.insert(0, np.stack([self.deferred_early, self.answer, self.confidence], axis=1).astype(np.float64))
        return np.concatenate(parts, axis=1)

    @classmethod
    def from_array(cls, array: np.ndarray, has_stages: bool, has_early_deferral: bool) -> "Evidence":
        """The inverse of :meth:`to_array`.

        Args:
            array: (n, W).
            has_stages: whether the policy has heads.
            has_early_deferral: whether the policy has early-deferral thresholds.
        """
        if not has_early_deferral:
            return cls(array if has_stages else None)
        deferred_early, answer, confidence = array[:, :3].T
        stages = np.ascontiguousarray(array[:, 3:]) if has_stages else None
        return cls(stages, deferred_early > 0, answer.astype(np.int64), confidence.copy())

    def _fields(self) -> tuple[np.ndarray | None, ...]:
        return self.stages, self.deferred_early, self.answer, self.confidence
