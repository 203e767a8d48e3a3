"""How many more rows it would take for thresholds to pass a test that they failed."""

import numpy as np

from cascade.calibration.certificates.construction import extreme_thresholds
from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.guarantees import MeanGuarantee
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import answering_stage

__all__ = ["more_rows"]

CHANCE = 0.85
DRAWS = 50
GROWTH = 1.2
MOST_GROWTH = 100
MOST_ROWS = 1_000_000
"""Most testing rows that are simulated."""
UNSEEN = 0.5
"""Rows that are added at each extreme outcome, which a small sample may lack (Jeffreys)."""


def more_rows(guarantee: MeanGuarantee, problem: RoutingProblem, stage: np.ndarray, delta: float, rows: int) -> str:
    """How many more rows it would take, as the end of a sentence.

    For n' rows in all, the outcomes of the testing rows are drawn from those at hand and tested in the same way. The
    frequencies of the outcomes are uncertain, so they are drawn as well (Rubin, "The Bayesian bootstrap", Ann. Statist.
    9, 1981). The result is the smallest n' with which 85 % of the draws pass; the seed is fixed. Where the rows
    contradict the guarantee for these thresholds and for the first and the last stage alone, more rows would not
    help.

    Args:
        guarantee: that was not certified.
        problem: the testing rows.
        stage: (n,) int, the stage that answers each of them.
        delta: level of the test.
        rows: all rows at hand.
    """
    outcome = guarantee.outcome(problem, stage)
    # The first proposal is about the cheapest possible. The largest gain may be beyond all proposals.
    extremes = [] if problem.abstains or isinstance(guarantee, CostGuarantee) else extreme_thresholds(problem)
    stages = [stage, *(answering_stage(problem.confidence, thresholds) for thresholds in extremes)]
    if all(guarantee.p_value_satisfied(guarantee.outcome(problem, each)) <= delta for each in stages):
        return "more rows of the same kind would hardly change that"
    factor = GROWTH
    while len(outcome) and factor <= min(MOST_GROWTH, MOST_ROWS / len(outcome)):
        if _passes_mostly(guarantee, outcome, round(len(outcome) * factor), delta):
            return f"about {_rounded_up(rows * (factor - 1)):,} more rows like these would probably do"
        factor *= GROWTH
    return "how many more rows it would take cannot be estimated from these"


def _passes_mostly(guarantee: MeanGuarantee, outcome: np.ndarray, rows: int, delta: float) -> bool:
    rng = np.random.default_rng(0)
    values, counts = np.unique(np.append(outcome, guarantee.extremes), return_counts=True)
    weights = counts - np.isin(values, guarantee.extremes) * (1 - UNSEEN)
    allowed = int((1 - CHANCE) * DRAWS)
    for _ in range(DRAWS):
        drawn = np.repeat(values, rng.multinomial(rows, rng.dirichlet(weights)))
        if isinstance(guarantee, CostGuarantee):  # the other tests only count
            rng.shuffle(drawn)
        allowed -= guarantee.p_value(drawn) > delta
        if allowed < 0:
            return False
    return True


def _rounded_up(rows: float) -> int:
    """To two digits."""
    unit = 10 ** max(len(str(int(rows))) - 2, 0)
    return int(-(-rows // unit) * unit)
