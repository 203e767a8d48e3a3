"""Smoothed gains: the mean gain of a stage's answers on rows with similar confidences.

On few rows the empirical frontier fits noise, and thresholds that only look good fail the test. Averaging the gains of
0 and 1 over similar rows keeps the means and removes most of the noise. No guarantee depends on this model: it only
proposes.

Where only positive rows gain, the smoothed gain is the probability that a row is positive and detected, so negative
rows have some, too. The thresholds between two positive rows can then be proposed: with 20 positive rows among 5,000,
a recall of 0.8 was certified in 49 of 60 samples, and in 7 with gains smoothed over positive rows alone.
"""

from dataclasses import replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["smoothed", "smoothed_gain"]

DEGREE = 2


def smoothed(problem: RoutingProblem) -> RoutingProblem:
    """The problem with smoothed gains."""
    return replace(problem, gain=smoothed_gain(problem.confidence, problem.gain))


def smoothed_gain(confidence: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """The probability of a gain given all confidences, by a logistic regression on their ranks for each stage.

    Args:
        confidence: (n, K - 1), K >= 1.
        gain: (n, K) of 0 and 1.

    Returns:
        (n, K) float in [0, 1].
    """
    if not confidence.shape[1]:
        return gain
    features = _features(confidence)
    return np.stack([_probability(features, column) for column in gain.T], axis=1)


def _features(confidence: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import rankdata
    from sklearn.preprocessing import PolynomialFeatures

    # Normal scores do not change under a strictly rising transformation of a confidence.
    scores = ndtri((rankdata(confidence, axis=0) - 0.5) / len(confidence))
    return np.asarray(PolynomialFeatures(DEGREE, include_bias=False).fit_transform(scores))


def _probability(features: np.ndarray, gained: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    if gained.min() == gained.max():
        return gained
    model = LogisticRegression(max_iter=200).fit(features, gained > 0)
    return np.asarray(model.predict_proba(features)[:, 1])
