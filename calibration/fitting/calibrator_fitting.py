"""Fitting of calibrators, with scikit-learn and SciPy."""

import numpy as np

from cascade.calibration.calibrators import Calibrators, Identity, Isotonic, Platt, Temperature
from cascade.errors import ScoreTableError
from cascade.routers import score_function
from cascade.routers.logit import SMALLEST, logit

__all__ = ["fit_calibrator"]


def fit_calibrator(
    name: str,
    score: str,
    confidence: np.ndarray,
    probabilities: np.ndarray | None,
    label: np.ndarray,
    answer: np.ndarray,
) -> Calibrators:
    """Fits a calibrator of one stage.

    Args:
        name: one of ``CALIBRATORS``.
        score: a name that ``cascade.routers.score_function`` reads; computed from the probabilities, if there are any.
        confidence: (n,) in [0, 1], used without probabilities.
        probabilities: (n, C), or ``None``; a temperature needs them.
        label: (n,) int, right answers (or the last stage's, without labels).
        answer: (n,) int, the stage's answers.

    Raises:
        ScoreTableError: a temperature has no probabilities, or a label is not one of their classes.
    """
    if name == "identity":
        return Identity()
    if name == "temperature":
        return _fit_temperature(probabilities, label)
    raw = confidence if probabilities is None else score_function(score)(np.asarray(probabilities, dtype=np.float64))
    return _fit_platt(raw, answer == label) if name == "platt" else _fit_isotonic(raw, answer == label)


def _fit_temperature(probabilities: np.ndarray | None, label: np.ndarray) -> Temperature:
    from scipy.optimize import minimize_scalar

    if probabilities is None:
        raise ScoreTableError(
            "a temperature needs class probabilities, but the score table has no 'scores'; "
            "collect them, or use 'platt' or 'isotonic'"
        )
    if label.min() < 0 or label.max() >= probabilities.shape[1]:
        raise ScoreTableError(
            f"labels must be in [0, {probabilities.shape[1]}) to fit a temperature; got {label.min()} to {label.max()}"
        )
    logs = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        highest = scaled.max(axis=1)
        normaliser = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((normaliser - scaled[np.arange(len(label)), label]).mean())

    found = minimize_scalar(negative_log_likelihood, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return Temperature(float(np.exp(found.x)))


def _fit_platt(confidence: np.ndarray, correct: np.ndarray) -> Platt:
    from sklearn.linear_model import LogisticRegression

    # Platt's smoothed targets: each row has a weight as right and as wrong, so a set without errors has a finite curve.
    rights = int(correct.sum())
    target = np.where(correct, (rights + 1) / (rights + 2), 1 / (len(correct) - rights + 2))
    doubled = np.tile(logit(confidence), 2)[:, None]
    outcome = np.repeat([1, 0], len(correct))
    model = LogisticRegression(C=1e10, max_iter=1000)
    model.fit(doubled, outcome, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        # The best curve that does not fall is flat.
        slope, intercept = 0.0, float(logit(target.mean()))
    return Platt(slope, intercept)


def _fit_isotonic(confidence: np.ndarray, correct: np.ndarray) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
    model.fit(confidence, correct)
    return Isotonic(tuple(map(float, model.X_thresholds_)), tuple(map(float, model.y_thresholds_)))
