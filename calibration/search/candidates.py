"""Threshold candidates: few values, and yet no operating point is lost."""

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER

__all__ = ["bins_of", "thinned", "useful_candidates"]


def useful_candidates(problem: RoutingProblem) -> tuple[np.ndarray, ...]:
    """Thresholds among which there is one at least as good for every cascade on these rows.

    A threshold between two neighbouring confidences is of use only if a row at the lower one gains more at some later
    stage. Otherwise the lower confidence is as good a threshold: its rows are answered at no lower gain, and at no
    higher cost, because the cost of a row never falls from stage to stage. This holds whatever the other thresholds
    are, so nothing is lost in gain and cost together.

    Args:
        problem: n rows, K stages.

    Returns:
        K - 1 arrays of rising thresholds. The first is the lowest confidence (all rows are answered), the last
        ``NEVER``.
    """
    return tuple(_useful(problem, k) for k in range(problem.confidence.shape[1]))


def _useful(problem: RoutingProblem, k: int) -> np.ndarray:
    better_later = problem.gain[:, k] < problem.gain[:, k + 1 :].max(axis=1)
    distinct, place = np.unique(problem.confidence[:, k], return_inverse=True)
    lost = np.bincount(place[better_later], minlength=len(distinct)) > 0
    return np.concatenate([distinct[:1], distinct[1:][lost[:-1]], [NEVER]])


def thinned(candidates: np.ndarray, most: int) -> np.ndarray:
    """Evenly spaced ones of an array of candidates, both ends among them, where there are more than ``most`` >= 2."""
    if len(candidates) <= most:
        return candidates
    return np.asarray(candidates[np.linspace(0, len(candidates) - 1, most).round().astype(int)])


def bins_of(candidates: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """How many candidates each confidence reaches: a row in bin b reaches those before b, and no other.

    Args:
        candidates: rising.
        confidence: (n,).

    Returns:
        (n,) int in [0, len(candidates)].
    """
    return np.searchsorted(candidates, confidence, "right")
