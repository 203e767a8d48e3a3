"""Certification: thresholds whose promise holds with a stated probability.

One part of the rows proposes a sequence of thresholds, from the surest to the most daring; the rest tests them one by
one, each at the full level delta, and stops at the first that fails. Fixed-sequence testing: a broken promise is
certified only if the test of the *first* broken one in the sequence errs, which happens with probability at most delta
(Maurer, Hothorn, Lehmacher 1995; for risk control Angelopoulos et al., "Learn then Test", Ann. Appl. Stat. 2025,
section 3.2, https://arxiv.org/abs/2110.01052). The rows must be independent draws from the traffic to come; the
probability is over the draw of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.promises import Promise
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

__all__ = ["Certificate", "certify", "split_rows"]

SEARCH_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class Certificate:
    """The last thresholds in a sequence that passed.

    Attributes:
        thresholds: (K - 1,).
        p_value: of the test that they passed.
        observed: mean outcome on the tested rows.
        rows: number of tested rows.
    """

    thresholds: np.ndarray
    p_value: float
    observed: float
    rows: int


def split_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows at random into those that search and those that test.

    Args:
        rows: n, at least 2.
        seed: of the split.

    Returns:
        Two arrays of indices, each with at least one.
    """
    order = np.random.default_rng(seed).permutation(rows)
    cut = min(max(1, round(SEARCH_SHARE * rows)), rows - 1)
    return order[:cut], order[cut:]


def certify(
    promise: Promise, problem: RoutingProblem, sequence: Sequence[np.ndarray], delta: float
) -> Certificate | None:
    """Tests thresholds in their order, up to the first that fails.

    Args:
        promise: what they must keep.
        problem: rows that had no part in the choice of the sequence.
        sequence: thresholds (K - 1,), surest first.
        delta: in (0, 1).

    Returns:
        The last that passed; ``None`` if the first one failed.
    """
    passed = None
    for thresholds in sequence:
        outcome = promise.outcome(problem, answering_stage(problem.confidence, thresholds))
        p_value = promise.p_value(outcome)
        if not p_value <= delta:  # also where it is NaN
            break
        passed = Certificate(thresholds, p_value, float(outcome.mean()), len(outcome))
    return passed
