"""Scores of confidence from class probabilities; each in [0, 1], 1 for certainty."""

from collections.abc import Callable

import numpy as np

__all__ = ["SCORES", "margin", "maximum_probability", "negative_entropy"]


def maximum_probability(probabilities: np.ndarray) -> np.ndarray:
    """The probability of the likeliest class.

    Args:
        probabilities: (n, C).

    Returns:
        (n,).
    """
    return np.asarray(probabilities.max(axis=1))


def margin(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest class's probability less the second's.

    Args:
        probabilities: (n, C), C >= 2.

    Returns:
        (n,).
    """
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def negative_entropy(probabilities: np.ndarray) -> np.ndarray:
    """1 - H(p) / log C, with H the Shannon entropy.

    Wang et al., "IDK Cascades", UAI 2018, section 3.1, https://arxiv.org/abs/1706.00885

    Args:
        probabilities: (n, C), C >= 2.

    Returns:
        (n,).
    """
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropy = -(probabilities * logs).sum(axis=1)
    return np.asarray(np.clip(1.0 - entropy / np.log(probabilities.shape[1]), 0.0, 1.0))


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "maximum_probability": maximum_probability,
    "margin": margin,
    "negative_entropy": negative_entropy,
}
