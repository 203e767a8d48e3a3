"""How many more rows it would take until thresholds pass a test that they failed."""

import numpy as np

from cascade.calibration.certificates.construction import extreme_thresholds
from cascade.calibration.certificates.promises import CostPromise, Promise
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

__all__ = ["more_rows"]

CHANCE = 0.85
DRAWS = 50
GROWTH = 1.2
MOST_GROWTH = 100
MOST_ROWS = 1_000_000
"""Tested rows that are simulated at most."""
UNSEEN = 0.5
"""Rows that are added at each end of what an outcome may be, since few rows show no rare ones (Jeffreys)."""


def more_rows(promise: Promise, problem: RoutingProblem, stage: np.ndarray, delta: float, rows: int) -> str:
    """How many more rows it would take, as the end of a sentence.

    Of n' rows as many are drawn as would test, from what the rows at hand show of the outcomes, and tested as they
    would be. What they show is uncertain, so their frequencies are drawn as well (Rubin, "The Bayesian bootstrap", Ann.
    Statist. 9, 1981). The smallest n' with which 85 % of the draws pass is taken; the seed is fixed. Where the rows
    contradict the promise for these thresholds and for the first and the last stage alone, more would not help.

    Args:
        promise: that is not certified.
        problem: the rows that tested.
        stage: (n,) int, the stage that answers each of them.
        delta: level of the test.
        rows: all rows at hand.
    """
    outcome = promise.outcome(problem, stage)
    # The first proposal is about the cheapest there is. What gains most may be beyond all proposals.
    extremes = [] if problem.abstains or isinstance(promise, CostPromise) else extreme_thresholds(problem)
    stages = [stage, *(answering_stage(problem.confidence, thresholds) for thresholds in extremes)]
    if all(promise.p_value_kept(promise.outcome(problem, each)) <= delta for each in stages):
        return "more rows of the same kind would hardly change that"
    factor = GROWTH
    while len(outcome) and factor <= min(MOST_GROWTH, MOST_ROWS / len(outcome)):
        if _passes_mostly(promise, outcome, round(len(outcome) * factor), delta):
            return f"about {_rounded_up(rows * (factor - 1)):,} more rows like these would probably do"
        factor *= GROWTH
    return "how many more rows it would take cannot be told from these"


def _passes_mostly(promise: Promise, outcome: np.ndarray, rows: int, delta: float) -> bool:
    rng = np.random.default_rng(0)
    values, counts = np.unique(np.append(outcome, promise.extremes), return_counts=True)
    weights = counts - np.isin(values, promise.extremes) * (1 - UNSEEN)
    allowed = int((1 - CHANCE) * DRAWS)
    for _ in range(DRAWS):
        drawn = np.repeat(values, rng.multinomial(rows, rng.dirichlet(weights)))
        if isinstance(promise, CostPromise):  # the others only count
            rng.shuffle(drawn)
        allowed -= promise.p_value(drawn) > delta
        if allowed < 0:
            return False
    return True


def _rounded_up(rows: float) -> int:
    """To two digits."""
    unit = 10 ** max(len(str(int(rows))) - 2, 0)
    return int(-(-rows // unit) * unit)
