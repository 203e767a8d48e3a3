"""How many more rows it would take for thresholds to pass a test that they failed, and for a recall at all."""

import math

import numpy as np

from cascade.calibration.certificates.construction import extreme_thresholds
from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.guarantees import MeanGuarantee
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget
from cascade.routers import answering_stage

__all__ = ["least_positives", "more_rows", "refuse_without_positives", "too_few_positives"]

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
            more = rows * (factor - 1)
            return f"about {_rounded_up(more):,} more rows like these{_positive(problem, more)} would probably do"
        factor *= GROWTH
    return "how many more rows it would take cannot be estimated from these"


def _positive(problem: RoutingProblem, rows: float) -> str:
    """How many of some rows are positive, in brackets, where that matters."""
    if problem.detection is None:
        return ""
    return f" (about {_rounded_up(rows * problem.detection.share):,} of them positive)"


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


def refuse_without_positives(goal: Goal, table: ScoreTable, least: int) -> None:
    """Refuses a recall on a table with fewer positive rows than a calibration takes at all.

    Args:
        goal: any.
        table: n rows.
        least: positive rows that are needed.

    Raises:
        InfeasibleTarget: the goal is a recall, and there are fewer.
    """
    if goal.positive is None or table.label is None:
        return
    found = int(np.count_nonzero(table.label == goal.positive))
    if found < least:
        name = goal.positive if table.classes is None else repr(str(table.classes[goal.positive]))
        few = "one of the {:,} rows is" if found else "none of the {:,} rows is"
        why = "it cannot both propose thresholds and test them" if found else "there is no recall of it"
        raise InfeasibleTarget(
            f"{few.format(len(table))} labelled with the positive class {name}, and {why}; label more positive rows"
        )


def least_positives(recall: float, delta: float) -> float:
    """Least number of positive testing rows with which a recall can be certified; all of them are detected then.

    With n positives and no miss the exact binomial p-value is recall^n; at most delta for n >= log(delta) /
    log(recall). Infinite for a recall of 1.
    """
    if recall <= 0:
        return 1
    return math.inf if recall >= 1 else math.ceil(math.log(delta) / math.log(recall) - 1e-9)


def too_few_positives(recall: float, tested: int, positives: int, delta: float) -> str | None:
    """Why no outcome on the positive testing rows certifies a recall, as the end of a sentence; ``None`` if one does.

    Args:
        recall: of the target.
        tested: positive testing rows.
        positives: all positive rows.
        delta: level of the test.
    """
    least = least_positives(recall, delta)
    if tested >= least:
        return None
    if least == math.inf:
        return "no number of rows certifies a recall of 1"
    total = math.ceil(least * positives / max(tested, 1))
    return (
        f"it takes at least {least:,.0f} positive testing rows, even if none of them is missed, so about {total:,} "
        f"positive rows in all; there are {positives:,}, {tested:,} of them for testing"
    )
