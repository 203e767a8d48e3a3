"""The routing kernel: the one place where a row is found sure enough, or hopeless.

Offline evaluation, the in-process engine and the served application all decide by :func:`accepted`, :func:`skipping`
and :func:`abstained`, so a replay of logged confidences gives the served decisions bit for bit.
"""

import numpy as np

__all__ = ["ALWAYS", "NEVER", "abstained", "accepted", "answering_stage", "asked_stages", "running_stages", "skipping"]

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


def skipping(confidence: np.ndarray, skip_below: float) -> np.ndarray:
    """Which rows go straight to the last stage, of those that a stage does not answer.

    Args:
        confidence: (n,) calibrated confidence in [0, 1]; NaN never skips.
        skip_below: in [0, 1]; at 0 no row skips.

    Returns:
        (n,) bool.
    """
    return np.asarray(np.asarray(confidence, dtype=np.float64) < skip_below)


def abstained(confidence: np.ndarray, abstain_below: float) -> np.ndarray:
    """Which of the rows that came to the last stage are not answered: a person decides.

    Args:
        confidence: (n,) calibrated confidence of the last stage, in [0, 1]; NaN counts as unsure.
        abstain_below: in [0, 1], or :data:`NEVER`; at 0 every row is answered.

    Returns:
        (n,) bool.
    """
    return ~accepted(confidence, abstain_below) if abstain_below > 0 else np.zeros(len(confidence), dtype=bool)


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


def running_stages(thresholds: np.ndarray, skip_below: np.ndarray, heads: bool = False) -> np.ndarray:
    """Which stages have any say: a stage that neither answers a row nor lets one skip is not run.

    Args:
        thresholds: (K - 1,).
        skip_below: (K - 1,), lower thresholds.
        heads: whether learned rules look at what all stages predicted.

    Returns:
        (K,) bool; the last stage always runs.
    """
    return np.append((thresholds <= 1.0) | (skip_below > 0) | heads, True)


def asked_stages(
    confidence: np.ndarray, thresholds: np.ndarray, skip_below: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Which stages look at each row of a table of confidences; the last of them answers it.

    Args:
        confidence: (n, K) or (n, K - 1); the last stage's confidence is not looked at.
        thresholds: (K - 1,); a stage answers the rows that reach its own.
        skip_below: (K - 1,); the rows below it that a stage does not answer go straight to the last stage.
        runs: (K,) bool, as of :func:`running_stages`.

    Returns:
        (n, K) bool.
    """
    asked = np.zeros((len(confidence), len(thresholds) + 1), dtype=bool)
    coming = np.ones(len(confidence), dtype=bool)
    for k, (threshold, lowest) in enumerate(zip(thresholds, skip_below, strict=True)):
        asked[:, k] = coming & runs[k]
        unsure = coming & ~accepted(confidence[:, k], threshold)
        skips = unsure & skipping(confidence[:, k], lowest)
        asked[:, -1] |= skips
        coming = unsure & ~skips
    asked[:, -1] |= coming
    return asked
