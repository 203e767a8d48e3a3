"""Evidence: what the stages so far said about a row, as a few numbers that travel on with it."""

import numpy as np

from cascade.routers.scores import SCORES

__all__ = ["EVIDENCE_COLUMNS", "new_evidence"]

EVIDENCE_COLUMNS = ("answer", "confidence", "maximum_probability", "margin", "negative_entropy")
"""Columns of one stage; the evidence of several stages stands side by side, the earliest first."""


def new_evidence(answer: np.ndarray, confidence: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    """What one stage said.

    Args:
        answer: (n,) int.
        confidence: (n,) in [0, 1], before calibration: what a score table holds.
        probabilities: (n, C), C >= 2, or ``None``; then the columns of the scores are NaN.

    Returns:
        (n, 5) float64, columns as in ``EVIDENCE_COLUMNS``.
    """
    evidence = np.full((len(answer), len(EVIDENCE_COLUMNS)), np.nan)
    evidence[:, 0], evidence[:, 1] = answer, confidence
    if probabilities is not None:
        # As in Router: the same bits from a score table and from a served row.
        exact = np.ascontiguousarray(probabilities, dtype=np.float64)
        for place, name in enumerate(EVIDENCE_COLUMNS[2:], 2):
            evidence[:, place] = SCORES[name](exact)
    return evidence
