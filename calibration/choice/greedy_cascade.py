"""A cascade built greedily, stage by stage.

Streeter, "Approximation Algorithms for Cascading Prediction Models", ICML 2018, https://arxiv.org/abs/1802.07697: each
step takes the model that answers most of the rows left per unit of cost, with its threshold as low as the accuracy
constraint on the answered rows allows. The constraint here: on the rows that a stage answers it gains at most `slack`
less than a reference model, in the mean. The bound of the paper is not claimed: the reference is asked last, and the
thresholds are searched again later; a greedy cascade is a start.
"""

import numpy as np

from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages
from cascade.calibration.choice.model_pool import ModelPool

__all__ = ["greedy_cascade"]


def greedy_cascade(screen: CandidateScreen, reference: int, slack: float, max_stages: int) -> Stages:
    """Builds one cascade that ends with the reference model, or with one that may answer all that is left before.

    Args:
        screen: tells the pool and the deadline.
        reference: model that always may answer; alone it keeps the deadline.
        slack: mean gain that each stage may lose against the reference on the rows it answers, in [-1, 1].
        max_stages: at least 1.
    """
    pool = screen.pool
    left = np.arange(len(pool.gain))
    stages: Stages = ()
    while len(stages) < max_stages - 1 and len(left):
        unused = (m for m in range(pool.models) if m != reference and m not in stages)
        options = [m for m in unused if screen.fits((*stages, m, reference))]
        # Without earlier stages the reference answers everything at its own cost.
        best_rate, best = _answered_per_cost(pool, left, len(left), reference, len(stages)), None
        for model in options:
            answered = _answered(pool, left, model, reference, slack)
            rate = _answered_per_cost(pool, left, len(answered), model, len(stages))
            if rate > best_rate:
                best_rate, best = rate, (model, answered)
        if best is None:
            break
        stages = (*stages, best[0])
        left = np.setdiff1d(left, best[1], assume_unique=True)
    return (*stages, reference) if len(left) else stages


def _answered_per_cost(pool: ModelPool, left: np.ndarray, answered: int, model: int, depth: int) -> float:
    cost = float(pool.cost[left, model].sum()) + pool.hop_cost * len(left) * (depth > 0)
    return answered / cost if cost > 0 else np.inf * answered if answered else 0.0


def _answered(pool: ModelPool, left: np.ndarray, model: int, reference: int, slack: float) -> np.ndarray:
    """Those of the rows left that the model answers at the lowest threshold that keeps the constraint."""
    order = left[np.argsort(-pool.confidence[left, model], kind="stable")]
    surplus = np.cumsum(pool.gain[order, model] - pool.gain[order, reference] + slack)
    confidence = pool.confidence[order, model]
    last_of_ties = np.append(confidence[1:] != confidence[:-1], True)
    kept = np.flatnonzero((surplus >= -1e-9) & last_of_ties)
    return np.asarray(order[: kept[-1] + 1] if len(kept) else order[:0])
