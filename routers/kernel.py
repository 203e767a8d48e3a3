"""The routing kernel: the comparisons of a confidence with a threshold.

Offline evaluation, the in-process engine and the served application all use :func:`accepted`, :func:`deferred_early`
and :func:`abstained`, so a replay of logged confidences gives the served decisions bit for bit.
"""

import numpy as np

__all__ = [
    "ALWAYS",
    "NEVER",
    "abstained",
    "accepted",
    "answering_stage",
    "deferred_early",
    "reached_stages",
    "running_stages",
]

ALWAYS = 0.0
"""Threshold with which a stage accepts every row."""

NEVER = float(np.nextafter(1.0, 2.0))
"""Threshold with which a stage accepts no row: the smallest number above 1, which JSON can hold."""


def accepted(confidence: np.ndarray, threshold: float) -> np.ndarray:
    """Which rows a stage accepts.

    Args:
        confidence: (n,) calibrated confidence in [0, 1]; NaN counts as unsure.
        threshold: in [0, 1], or :data:`NEVER`.

    Returns:
        (n,) bool.
    """
    # In float64: NumPy would round NEVER to 1 beside a float32 array.
    return np.asarray(np.asarray(confidence, dtype=np.float64) >= threshold)


def deferred_early(confidence: np.ndarray, defer_below: float) -> np.ndarray:
    """Which rows go to the last stage at once, of those that a stage does not accept.

    Args:
        confidence: (n,) calibrated confidence in [0, 1]; NaN is never below.
        defer_below: early-deferral threshold, in [0, 1]; at 0 no row is deferred early.

    Returns:
        (n,) bool.
    """
    return np.asarray(np.asarray(confidence, dtype=np.float64) < defer_below)


def abstained(confidence: np.ndarray, abstain_below: float) -> np.ndarray:
    """Which of the rows that reach the last stage are not answered: a person decides.

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
        confidence: (n, K) or (n, K - 1); the last stage's confidence is not used.
        thresholds: (K - 1,).

    Returns:
        (n,) int, the first stage that accepts, else K - 1.
    """
    stage = np.full(len(confidence), len(thresholds))
    for k in reversed(range(len(thresholds))):
        stage[accepted(confidence[:, k], thresholds[k])] = k
    return stage


def running_stages(thresholds: np.ndarray, defer_below: np.ndarray, heads: bool = False) -> np.ndarray:
    """Which stages run: a stage that can neither accept a row nor defer one early does not.

    Args:
        thresholds: (K - 1,).
        defer_below: (K - 1,), early-deferral thresholds.
        heads: whether a head reads the evidence of all stages.

    Returns:
        (K,) bool; the last stage always runs.
    """
    return np.append((thresholds <= 1.0) | (defer_below > 0) | heads, True)


def reached_stages(
    confidence: np.ndarray, thresholds: np.ndarray, defer_below: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Which stages each row of a table of confidences reaches; the last of them answers it.

    Args:
        confidence: (n, K) or (n, K - 1); the last stage's confidence is not used.
        thresholds: (K - 1,).
        defer_below: (K - 1,), early-deferral thresholds.
        runs: (K,) bool, as of :func:`running_stages`.

    Returns:
        (n, K) bool.
    """
    reached = np.zeros((len(confidence), len(thresholds) + 1), dtype=bool)
    pending = np.ones(len(confidence), dtype=bool)
    for k, (threshold, lowest) in enumerate(zip(thresholds, defer_below, strict=True)):
        reached[:, k] = pending & runs[k]
        unsure = pending & ~accepted(confidence[:, k], threshold)
        early = unsure & deferred_early(confidence[:, k], lowest)
        reached[:, -1] |= early
        pending = unsure & ~early
    reached[:, -1] |= pending
    return reached
