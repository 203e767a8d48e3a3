"""Scores of confidence from class probabilities; each in [0, 1], 1 for certainty."""

import re
from collections.abc import Callable
from functools import partial

import numpy as np

__all__ = [
    "SCORES",
    "class_score",
    "margin",
    "maximum_probability",
    "negative_entropy",
    "rejected_class",
    "score_function",
]

Score = Callable[[np.ndarray], np.ndarray]
CLASS_SCORE = re.compile(r"probability_of_class_(0|[1-9][0-9]{0,5})")


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


SCORES: dict[str, Score] = {
    "maximum_probability": maximum_probability,
    "margin": margin,
    "negative_entropy": negative_entropy,
}
"""The scores of any class; a reject router has the score of one class instead (:func:`class_score`)."""


def class_score(number: int) -> str:
    """Name of the score of a reject router: the probability of one class, by its number from 0."""
    return f"probability_of_class_{number}"


def rejected_class(score: str | None) -> int | None:
    """The class that a reject router rejects as, by the name of its score; ``None`` for any other score."""
    found = CLASS_SCORE.fullmatch(score or "")
    return int(found[1]) if found else None


def score_function(name: str) -> Score:
    """The score of a name: one of ``SCORES``, or of :func:`class_score`.

    Raises:
        ValueError: no score has this name.
    """
    number = rejected_class(name)
    if number is not None:
        return partial(_class_probability, number)
    if name not in SCORES:
        raise ValueError(f"a score must be one of {sorted(SCORES)} or {class_score(0)!r} and so on; got {name!r}")
    return SCORES[name]


def _class_probability(number: int, probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities[:, number])
