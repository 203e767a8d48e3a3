"""Why a target cannot be had, what can be had instead, and what it would take."""

import math
from dataclasses import replace

import numpy as np

from cascade.calibration.certificates.bound import certified_bound
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search.abstaining_grid import Limits, best_abstaining
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import NEVER, answering_stage

__all__ = ["refuse_abstaining", "refuse_budget", "refuse_certified", "refuse_empirical"]

BUDGETS = 100
EASIER = 40  # values of a target of a cascade that may abstain, each of which takes a search of its own
LEAST_RISK = 1e-4


def refuse_empirical(goal: Goal, problem: RoutingProblem, cost_unit: str) -> InfeasibleTarget:
    """The refusal of a target that no thresholds reach on the rows themselves."""
    if goal.name == "max_cost":
        nearest = problem.least_cost
        return InfeasibleTarget(
            f"no policy costs at most {goal.value:g} {cost_unit} per row: "
            f"the cheapest stage alone costs {nearest:.6g} {cost_unit}",
            nearest,
        )
    best = best_thresholds(problem, Target(most_cost=np.inf))
    gain = problem.value(np.full(problem.confidence.shape[1], NEVER) if best is None else best)[0]
    drop = goal.name == "max_accuracy_drop"
    nearest = float(problem.gain[:, -1].mean()) - gain if drop else gain
    return InfeasibleTarget(
        f"no policy reaches {goal.quantity} {goal.value:.6g} on these {len(problem.confidence)} rows; "
        f"the nearest reachable is {nearest:.6g}",
        nearest,
    )


def refuse_abstaining(goal: Goal, problem: RoutingProblem, cost_unit: str) -> InfeasibleTarget:
    """The refusal of targets that no thresholds of a cascade that may abstain reach on the rows themselves."""
    limits = goal.limits()
    if limits.least_accuracy is None:
        return refuse_empirical(goal, problem, cost_unit)
    cheapest = best_abstaining(problem, replace(limits, most_cost=np.inf))
    if cheapest is not None:
        return refuse_budget(goal, problem.value(cheapest)[1], cost_unit)
    best = best_abstaining(problem, Limits(limits.most_abstained))
    # Nobody is answered by none at all: there is always something to answer.
    stage = answering_stage(problem.confidence, np.zeros(problem.confidence.shape[1]) if best is None else best)
    nearest = float(goal.promise(problem, 0.5).outcome(problem, stage).mean())
    return InfeasibleTarget(
        f"no policy reaches accuracy {goal.value:.6g} on the rows that it answers of these {len(problem)}, and "
        f"abstains on at most {limits.most_abstained:g} of them; the nearest reachable is {nearest:.6g}",
        nearest,
    )


def refuse_budget(goal: Goal, cost: float, cost_unit: str) -> InfeasibleTarget:
    """The refusal of a budget within which a target of gain cannot be reached.

    Args:
        goal: both targets.
        cost: the least mean cost, or the least bound of it, with which the target of gain is reached.
        cost_unit: of the table.
    """
    most = goal.targets["max_cost"]
    return InfeasibleTarget(
        f"no policy reaches {goal.quantity} {goal.value:.6g} at a mean cost of at most {most:g} {cost_unit}; "
        f"the nearest budget that can be kept is {cost:.6g} {cost_unit}",
        cost,
    )


def refuse_certified(goal: Goal, certifier: Certifier, delta: float, table: ScoreTable) -> InfeasibleTarget:
    """The refusal of a goal that the surest thresholds do not bear out at level delta.

    Args:
        goal: that was asked for; of two targets, the first is refused if it fails alone, else the budget beside it.
        certifier: that refused.
        delta: level of the tests.
        table: all rows.
    """
    first = goal.parts[0]
    if goal.budget and certifier.certify(replace(goal, budget=None), delta):
        return refuse_budget(goal, _nearest_budget(goal, goal.budget, certifier, delta), table.cost_unit)
    easier = replace(goal, budget=None)
    beside = ""
    surest = certifier.sequence(easier)[0]
    stage, tested = answering_stage(certifier.test.confidence, surest), certifier.tested(easier, surest)
    if goal.abstains:
        first = _first_failure(easier, tested, stage, delta)
        beside = "".join(f" beside {part.name} {part.value:g}" for part in easier.parts if part.name != first.name)
        nearest = _nearest_abstaining(easier, first, certifier, delta)
    else:
        nearest = certified_bound(first, tested, stage, delta)
    unit = f" {table.cost_unit}" if first.name == "max_cost" else ""
    more = _more_rows(first, tested, stage, delta, len(table))
    wanted = (
        "more rows of the same kind would not change that"
        if more is None
        else f"it would take about {more:,} more rows like these"
    )
    return InfeasibleTarget(
        f"{first.quantity} {first.value:.6g}{unit}{beside} cannot be certified with probability {1 - delta:g} from "
        f"{len(table)} rows; the nearest that can be is {nearest:.6g}{unit}, and {wanted}",
        nearest,
    )


def _first_failure(goal: Goal, tested: RoutingProblem, stage: np.ndarray, delta: float) -> Goal:
    """The first target that fails where rows (n,) are answered at some stages."""
    for part, promise in zip(goal.parts, goal.promises(tested, delta), strict=True):
        if not promise.p_value(promise.outcome(tested, stage)) <= delta:
            return part
    return goal.parts[0]


def _nearest_abstaining(goal: Goal, failed: Goal, certifier: Certifier, delta: float) -> float:
    """The first of ever easier values of the target that failed with which the goal is certified."""
    if failed.name == "target_accuracy":
        values = 1 - np.geomspace(max(1 - failed.value, LEAST_RISK), 1.0, EASIER)
    else:
        values = np.geomspace(max(failed.value, LEAST_RISK), failed.easiest(certifier.test), EASIER)
    for value in map(float, values[1:]):
        easier = replace(goal, most_abstained=value) if failed.name == "max_abstain" else replace(goal, value=value)
        if certifier.certify(easier, delta):
            return value
    return float(values[-1])


def _nearest_budget(goal: Goal, budget: Goal, certifier: Certifier, delta: float) -> float:
    """The first of rising budgets that is certified: where the sequence begins depends on it, so any may fail."""
    highest = budget.easiest(certifier.test)
    budgets = map(float, np.geomspace(budget.value, highest, EASIER if goal.abstains else BUDGETS))
    both = (replace(goal, budget=replace(budget, value=value)) for value in budgets)
    return next((goal.targets["max_cost"] for goal in both if certifier.certify(goal, delta)), highest)


def _more_rows(goal: Goal, problem: RoutingProblem, stage: np.ndarray, delta: float, rows: int) -> int | None:
    """Rows beyond those at hand until the observed mean would do, by the normal approximation."""
    from scipy.stats import norm

    promise = goal.promise(problem, delta)
    outcome = promise.outcome(problem, stage)
    margin = promise.margin(float(outcome.mean())) if len(outcome) else 0.0
    if margin <= 0:
        return None
    tested = float(norm.ppf(1 - delta) ** 2 * outcome.var() / margin**2)
    return max(math.ceil(rows * (tested / len(outcome) - 1)), 1)
