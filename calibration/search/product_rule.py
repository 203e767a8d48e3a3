"""The classical rule of a rejection cascade: each stage has its own detection rate, and their product is the target."""

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import ALWAYS, accepted

__all__ = ["product_rule_thresholds"]


def product_rule_thresholds(problem: RoutingProblem, least_recall: float) -> np.ndarray:
    """Thresholds by which each of K stages has an equal share in the recall.

    Viola and Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", CVPR 2001, section 4: the
    detection rate of a cascade is the product of its stages' rates. The last stage has no threshold; with its own rate
    d, each stage before it gets (r / d)^(1 / (K - 1)) for the wanted recall r, at most 1, and rejects as many rows as
    that allows. The rates are those on these rows: nothing is guaranteed on others, and no cost is compared.

    Args:
        problem: n rows, K stages, with a positive class.
        least_recall: r, in [0, 1].

    Returns:
        (K - 1,) thresholds.

    Raises:
        ValueError: the problem has no positive class.
    """
    detection = problem.detection
    if detection is None:
        raise ValueError("the rule needs a problem with a positive class")
    last = problem.gain[detection.is_positive, -1]
    rate = float(last.mean()) if len(last) and last.any() else 1.0
    each = min(least_recall / rate, 1.0) ** (1 / max(problem.stages - 1, 1))
    thresholds = np.full(problem.stages - 1, ALWAYS)
    reaching = detection.is_positive.copy()
    for k in range(problem.stages - 1):
        may_miss = int((1 - each) * reaching.sum() + 1e-9)
        missed_if_accepted = reaching & ~detection.answered[:, k]
        highest = np.sort(problem.confidence[missed_if_accepted, k])[::-1]
        if len(highest) > may_miss:
            thresholds[k] = np.nextafter(highest[may_miss], 2.0)
        reaching &= ~accepted(problem.confidence[:, k], thresholds[k])
    return thresholds
