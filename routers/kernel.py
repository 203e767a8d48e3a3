"""The routing kernel: the one place where a row is found sure enough.

Offline evaluation, the in-process engine and the served application all decide by :func:`accepted`, so a replay
of logged confidences gives the served decisions bit for bit.
"""

import numpy as np

__all__ = ["ALWAYS", "NEVER", "accepted", "answering_stage"]

ALWAYS = 0.0
"""Threshold that every row reaches."""

NEVER = float(np.nextafter(1.0, 2.0))
"""Threshold that no row reaches: the smallest number above 1, so that it survives JSON."""


def accepted(confidence: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows a stage answers.

    Args:
        confidence: (n,) calibrated confidence in [0, 1]; NaN counts as unsure.
        threshold: in [0, 1], or :data:`NEVER`.

    Returns:
        (n,) bool.
    """
    # In float64: NumPy would round NEVER to 1 beside a float32 array.
    return np.asarray(np.asarray(confidence, dtype=np.float64) >= threshold)


def answering_stage(confidence: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which stage answers each row of a table of confidences.

    Args:
        confidence: (n, K) or (n, K - 1); the last stage's confidence is not looked at.
        thresholds: (K - 1,).

    Returns:
        (n,) int, the first stage that accepts, else K - 1.
    """
    stage = np.full(len(confidence), len(thresholds))
    for k in reversed(range(len(thresholds))):
        stage[accepted(confidence[:, k], thresholds[k])] = k
    return stage
