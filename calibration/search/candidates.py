"""Threshold candidates: few values, without losing an operating point."""

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER

__all__ = ["bins_of", "thinned", "useful_candidates"]


def useful_candidates(problem: RoutingProblem) -> tuple[np.ndarray, ...]:
    """Thresholds of which one is at least as good as any other value, for every cascade on these rows.

    A threshold between two neighbouring confidences is useful only if a row at the lower one gains more at some later
    stage. Otherwise the lower confidence is as good a threshold: its rows are answered with no lower gain, and at no
    higher cost, because the cost of a row never falls from stage to stage. This holds for any values of the other
    thresholds.

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
    """At most ``most`` >= 2 evenly spaced candidates of an array, both ends included."""
    if len(candidates) <= most:
        return candidates
    return np.asarray(candidates[np.linspace(0, len(candidates) - 1, most).round().astype(int)])


def bins_of(candidates: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The number of candidates at or below each confidence: a row in bin b is accepted at the first b candidates.

    Args:
        candidates: rising.
        confidence: (n,).

    Returns:
        (n,) int in [0, len(candidates)].
    """
    return np.searchsorted(candidates, confidence, "right")
