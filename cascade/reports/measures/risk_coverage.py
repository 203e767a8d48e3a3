"""Risk and coverage: the error rate of a model on its most confident rows."""

from dataclasses import dataclass

import numpy as np

__all__ = ["RiskCoverage", "risk_coverage"]


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The risk of answering only the rows above a threshold, for every threshold.

    Attributes:
        coverage: (m,) float in (0, 1], rising; the share of the rows with at least each distinct confidence.
        risk: (m,) float in [0, 1], the share of wrong answers among those rows.
        area: AURC in [0, 1], the mean over the rows of the risk at their own confidence; lower is better.
        ideal_area: AURC of an ordering that puts every right answer before every wrong one.
    """

    coverage: np.ndarray
    risk: np.ndarray
    area: float
    ideal_area: float

    @property
    def excess_area(self) -> float:
        """E-AURC, the part of the area that the ideal ordering of the same answers would save; at least 0."""
        return self.area - self.ideal_area


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """The risk-coverage curve and its area.

    As with a threshold, rows of equal confidence are answered together or not at all, so the curve has one point per
    distinct confidence. The ideal area is exact for n rows, not its limit r + (1 - r) log(1 - r).

    Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019, section 3,
    https://arxiv.org/abs/1805.08206

    Args:
        confidence: (n,) float, n >= 1.
        correct: (n,) bool.
    """
    n = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, n + 1)
    errors = np.cumsum(~np.asarray(correct, dtype=bool)[order])
    last_of_ties = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    coverage, risk = answered[last_of_ties] / n, errors[last_of_ties] / answered[last_of_ties]
    ideal_errors = np.maximum(answered - (n - errors[-1]), 0)
    area = np.average(risk, weights=np.diff(last_of_ties, prepend=-1))
    return RiskCoverage(coverage, risk, float(area), float((ideal_errors / answered).mean()))
