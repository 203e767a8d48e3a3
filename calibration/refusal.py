"""Why a target cannot be had, what can be had instead, and what it would take."""

import math

import numpy as np

from cascade.calibration.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search import Target, best_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import NEVER, answering_stage

__all__ = ["refuse_certified", "refuse_empirical"]

BISECTIONS = 40


def refuse_empirical(goal: Goal, problem: RoutingProblem, cost_unit: str) -> InfeasibleTarget:
    """The refusal of a target that no thresholds reach on the rows themselves."""
    if goal.name == "max_cost":
        nearest = float(problem.cost[:, 0].mean())
        return InfeasibleTarget(
            f"no policy costs at most {goal.value:g} {cost_unit} a row: "
            f"the first stage alone costs {nearest:.6g} {cost_unit}",
            nearest,
        )
    best = best_thresholds(problem, Target(most_cost=np.inf))
    nearest = problem.value(np.full(problem.confidence.shape[1], NEVER) if best is None else best)[0]
    return InfeasibleTarget(
        f"no policy reaches {goal.quantity} {goal.value:.6g} on these {len(problem.confidence)} rows; "
        f"the nearest reachable is {nearest:.6g}",
        nearest,
    )


def refuse_certified(
    goal: Goal, problem: RoutingProblem, surest: np.ndarray, delta: float, table: ScoreTable
) -> InfeasibleTarget:
    """The refusal of a target that the surest thresholds do not bear out at level delta.

    Args:
        goal: that was asked for.
        problem: the rows that test.
        surest: first thresholds of the sequence.
        delta: level of the test.
        table: all rows.
    """
    stage = answering_stage(problem.confidence, surest)
    nearest = _nearest(goal, problem, stage, delta)
    unit = f" {table.cost_unit}" if goal.name == "max_cost" else ""
    more = _more_rows(goal, problem, stage, delta, len(table))
    wanted = (
        "more rows of the same kind would not change that"
        if more is None
        else f"it would take about {more:,} more rows like these"
    )
    return InfeasibleTarget(
        f"{goal.quantity} {goal.value:.6g}{unit} cannot be certified with probability {1 - delta:g} from {len(table)} "
        f"rows; the nearest that can be is {nearest:.6g}{unit}, and {wanted}",
        nearest,
    )


def _nearest(goal: Goal, problem: RoutingProblem, stage: np.ndarray, delta: float) -> float:
    """The value nearest to the goal's that the test bears out, by bisection: the p-value is monotone in it."""
    easy, hard = goal.easiest(problem), goal.value
    for _ in range(BISECTIONS):
        middle = (easy + hard) / 2
        promise = Goal(goal.name, middle).promise(problem, delta)
        if promise.p_value(promise.outcome(problem, stage)) <= delta:
            easy = middle
        else:
            hard = middle
    return easy


def _more_rows(goal: Goal, problem: RoutingProblem, stage: np.ndarray, delta: float, rows: int) -> int | None:
    """Rows beyond those at hand until the observed mean would do, by the normal approximation."""
    from scipy.stats import norm

    outcome = goal.promise(problem, delta).outcome(problem, stage)
    margin = float(outcome.mean()) - goal.value if goal.rises else goal.value - float(outcome.mean())
    if margin <= 0:
        return None
    tested = float(norm.ppf(1 - delta) ** 2 * outcome.var() / margin**2)
    return max(math.ceil(rows * (tested / len(outcome) - 1)), 1)
