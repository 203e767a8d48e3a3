"""Operating points by recall, precision and cost, for a target of recall beside one of precision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.frontier import frontier
from cascade.calibration.search.grid import LARGEST_GRID
from cascade.routers import answering_stage

__all__ = ["PrecisePoint", "cheapest_precise", "highest_precise_gain", "precise_points"]

PENALTIES = (0.0, 0.5, 1.0, 2.0)
"""Loss of a false positive, in units of the one at which the least precision is exactly reached."""
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PrecisePoint:
    """Thresholds with their means on some rows.

    Attributes:
        thresholds: (K - 1,).
        recall: share of the positive rows that are answered as positive.
        precision: share of the rows answered as positive that are positive; 1 if there are none.
        answered: number of rows answered as positive.
        cost: mean cost per row.
    """

    thresholds: np.ndarray
    recall: float
    precision: float
    answered: int
    cost: float


def precise_points(problem: RoutingProblem, least_precision: float, largest: int) -> Iterator[PrecisePoint]:
    """Points of the frontiers of detected positives less a loss for each false positive, for several losses.

    At least p of the rows answered as positive are positive exactly where the detected positives are at least
    p / (1 - p) times the false positives.

    Args:
        problem: with a positive class; n rows, K stages. Its gains may be smoothed.
        least_precision: p, in [0, 1].
        largest: bound on the number of combinations in a grid.
    """
    detection = problem.detection
    if detection is None:
        raise ValueError("precision needs a problem with a positive class")
    false = detection.answered & ~detection.is_positive[:, None]
    balance = least_precision / float(np.maximum(1 - least_precision, 1 / len(problem)))
    seen = set()
    for penalty in PENALTIES:
        lossy = replace(problem, gain=problem.gain - penalty * balance * false)
        for point in frontier(lossy, largest=largest):
            if point.thresholds.tobytes() in seen:
                continue
            seen.add(point.thresholds.tobytes())
            stage = answering_stage(problem.confidence, point.thresholds)[:, None]
            detected = float(np.take_along_axis(problem.gain, stage, axis=1).sum())
            wrong = int(np.take_along_axis(false, stage, axis=1).sum())
            precision = detected / (detected + wrong) if detected + wrong else 1.0
            recall = detected / max(int(detection.is_positive.sum()), 1)
            yield PrecisePoint(point.thresholds, recall, precision, round(detected + wrong), point.cost)


def cheapest_precise(problem: RoutingProblem, least_recall: float, least_precision: float) -> np.ndarray | None:
    """The cheapest of these points that reach both targets on the rows themselves: (K - 1,) thresholds, or ``None``."""
    reached = [
        point
        for point in precise_points(problem, least_precision, LARGEST_GRID)
        if point.recall >= least_recall - ROUNDING and point.precision >= least_precision - ROUNDING
    ]
    return min(reached, key=lambda point: point.cost).thresholds if reached else None


def highest_precise_gain(problem: RoutingProblem, least_precision: float) -> float:
    """The highest mean gain of these points that reach a precision on the rows themselves; 0 if none does."""
    share = 0.0 if problem.detection is None else problem.detection.share
    points = precise_points(problem, least_precision, LARGEST_GRID)
    recalls = [point.recall for point in points if point.precision >= least_precision - ROUNDING]
    return max(recalls, default=0.0) * share
