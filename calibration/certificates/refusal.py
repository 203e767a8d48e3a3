"""Why a target is refused, which one is reachable instead, and what it would take."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from cascade.calibration.certificates.bound import certified_bound
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.construction import constructed_bound, extreme_thresholds
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.more_rows import more_rows, too_few_positives
from cascade.calibration.certificates.typed_value import near, typed
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import Limits, best_abstaining
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.precise_points import highest_precise_gain
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget
from cascade.routers import NEVER, answering_stage

__all__ = ["advise", "refuse_abstaining", "refuse_budget", "refuse_certified", "refuse_empirical"]

BUDGETS = 100
EASIER = 40  # values of a target of a cascade that may abstain; each needs its own search
LEAST_RISK = 1e-4
CLEAR_OF_ALL = 4.0
ANOTHER_LOOK = "To ask again is another look: plan looks in advance, with look=1 for the first"

Certifies = Callable[[Goal], bool]


def refuse_empirical(goal: Goal, problem: RoutingProblem, cost_unit: str) -> InfeasibleTarget:
    """The refusal of a target that no thresholds reach on the given rows."""
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
    beside = ""
    if goal.least_precision is not None:
        beside = f" beside precision {goal.least_precision:g}"
        gain = highest_precise_gain(problem, goal.least_precision)
    if problem.detection is not None:
        nearest = typed(goal, gain / problem.detection.share)
    return InfeasibleTarget(
        f"no policy reaches {goal.quantity} {goal.value:.6g}{beside} on these {len(problem.confidence)} rows; "
        f"the nearest reachable is {nearest:.6g}",
        nearest,
    )


def refuse_abstaining(goal: Goal, problem: RoutingProblem, cost_unit: str) -> InfeasibleTarget:
    """The refusal of targets that no thresholds of a cascade that may abstain reach on the given rows."""
    limits = goal.limits()
    if limits.least_accuracy is None:
        return refuse_empirical(goal, problem, cost_unit)
    cheapest = best_abstaining(problem, replace(limits, most_cost=np.inf))
    if cheapest is not None:
        return refuse_budget(goal, problem.value(cheapest)[1], cost_unit)
    best = best_abstaining(problem, Limits(limits.most_abstained))
    # Some row is always answered.
    stage = answering_stage(problem.confidence, np.zeros(problem.confidence.shape[1]) if best is None else best)
    nearest = float(goal.guarantee(problem, 0.5).outcome(problem, stage).mean())
    return InfeasibleTarget(
        f"no policy reaches accuracy {goal.value:.6g} on the rows that it answers of these {len(problem)}, and "
        f"abstains on at most {limits.most_abstained:g} of them; the nearest reachable is {nearest:.6g}",
        nearest,
    )


def refuse_budget(goal: Goal, cost: float, cost_unit: str) -> InfeasibleTarget:
    """The refusal of a budget within which a target of gain cannot be reached.

    Args:
        goal: both targets.
        cost: the least mean cost, or the least bound of it, at which the target of gain is reached.
        cost_unit: of the table.
    """
    most = goal.targets["max_cost"]
    return InfeasibleTarget(
        f"no policy reaches {goal.quantity} {goal.value:.6g} at a mean cost of at most {most:g} {cost_unit}; "
        f"the nearest budget that can be met is {cost:.6g} {cost_unit}",
        cost,
    )


def refuse_certified(
    goal: Goal, certifier: Certifier, delta: float, table: ScoreTable, certifies: Certifies
) -> InfeasibleTarget:
    """The refusal of a goal that the safest thresholds do not reach at level delta.

    Args:
        goal: the refused one; of two targets, the first is named if it fails alone, else the budget.
        certifier: of the rows.
        delta: level of the tests.
        table: all rows.
        certifies: whether a goal is certified on the same rows, with the same seed.
    """
    unbounded = ", ".join(
        repr(str(name)) for name, most in zip(table.stage, table.highest_work, strict=True) if most == np.inf
    )
    if "max_cost" in goal.targets and unbounded:
        return InfeasibleTarget(
            f"max_cost {goal.targets['max_cost']:g} {table.cost_unit} cannot be certified: rows differ in their "
            f"cost at {unbounded}, and the score table declares no highest_cost there, so rare expensive rows that no "
            "sample contains could violate it; declare the bound (docs/tune.md, 'Bounds of costs') and collect again, "
            "or take a policy without a guarantee"
        )
    first = goal.parts[0]
    cheapest = next(_constructed_values(first, certifier), None)
    if first.name == "max_cost" and cheapest is not None and first.value < cheapest:
        least = cheapest
        return InfeasibleTarget(
            f"no policy costs at most {first.value:g} {table.cost_unit} per row: "
            f"the cheapest stage alone costs {least:.6g} {table.cost_unit}",
            least,
        )
    if goal.budget and certifier.certify(replace(goal, budget=None), delta):
        return refuse_budget(goal, _nearest_budget(goal, goal.budget, certifier, certifies), table.cost_unit)
    easier = replace(goal, budget=None)
    beside = ""
    safest = certifier.safest(easier)
    stage, tested = answering_stage(certifier.test.confidence, safest), certifier.tested(easier, safest)
    if goal.abstains or goal.least_precision is not None:
        first = _first_failure(easier, tested, stage, delta)
        beside = "".join(f" beside {part.name} {part.value:g}" for part in easier.parts if part.name != first.name)
        values = _easier_values(first, certifier)
    else:
        values = near(first, certified_bound(first, tested, stage, delta), first.easiest(tested))
        values = itertools.chain(_constructed_values(first, certifier), values)
    nearest = next((value for value in values if certifies(_with_value(easier, first, value))), None)
    unit = f" {table.cost_unit}" if first.name == "max_cost" else ""
    guarantee = first.guarantee(tested, delta)
    found = "none is near" if nearest is None else f"the nearest that can be is {nearest:.6g}{unit}"
    more = _too_few(first, tested, table, delta) or more_rows(guarantee, tested, stage, delta, len(table))
    more += _missed_by_the_last(first, tested)
    return InfeasibleTarget(
        f"{first.quantity} {first.value:.6g}{unit}{beside} cannot be certified with probability {1 - delta:g} from "
        f"{len(table)} rows; {found}, and {more}. {ANOTHER_LOOK}",
        nearest,
    )


def _too_few(part: Goal, tested: RoutingProblem, table: ScoreTable, delta: float) -> str | None:
    """Why the testing rows are too few for any outcome to certify a recall; ``None`` if they are not."""
    if part.name != "min_recall" or tested.detection is None or table.label is None:
        return None
    positives = int(np.count_nonzero(table.label == part.positive))
    return too_few_positives(part.value, int(tested.detection.is_positive.sum()), positives, delta)


def _missed_by_the_last(part: Goal, tested: RoutingProblem) -> str:
    """The recall of the last stage alone, as the end of a sentence, if it is below the wanted one."""
    if part.name != "min_recall" or tested.detection is None or not tested.detection.is_positive.any():
        return ""
    recall = float(tested.detection.answered[tested.detection.is_positive, -1].mean())
    return f" (the last stage alone detects {recall:.4g} of the positive testing rows)" if recall < part.value else ""


def advise(goal: Goal, certifier: Certifier, delta: float, rows: int, certifies: Certifies) -> tuple[str, float | None]:
    """What it would take to certify a goal by tests, where a single stage reaches it by construction.

    Args:
        goal: the certified one.
        certifier: of the rows.
        delta: level of the tests.
        rows: of the table.
        certifies: whether a goal is certified on the same rows by tested thresholds.

    Returns:
        The advice, and the nearest value of the (first) target that tested thresholds pass; ``None`` if none was found.
    """
    first = goal.parts[0]
    safest = certifier.safest(goal)
    if None not in certifier.constructed(goal, safest):
        return "no other thresholds are proposed", None
    thresholds = certifier.first_failure(goal, delta)
    better = "gain more" if first.name == "max_cost" else "cost less"
    if thresholds is None:
        return f"other thresholds pass too, but none that {better} are proposed", None
    passing = "no other thresholds pass" if np.array_equal(thresholds, safest) else f"no thresholds that {better} pass"
    stage, tested = answering_stage(certifier.test.confidence, thresholds), certifier.tested(goal, thresholds)
    if "max_cost" in goal.targets and tested.highest_cost == np.inf:
        why = "the score table declares no bound of the cost per row (highest_cost)"
        return f"no other thresholds can be tested: {why}", None
    values = near(first, certified_bound(first, tested, stage, delta), first.easiest(tested))
    easier = (value for value in values if not first.is_reached_at(value))
    nearest = next((value for value in easier if certifies(_with_value(goal, first, value))), None)
    found = "" if nearest is None else f"{first.name} {nearest:.6g} is the nearest that others pass, and "
    more = more_rows(first.guarantee(tested, delta), tested, stage, delta, rows)
    return f"{passing} on {rows} rows: {found}{more}. {ANOTHER_LOOK}", nearest


def _with_value(goal: Goal, part: Goal, value: float) -> Goal:
    """The goal with another value of one of its parts."""
    if part.name == "min_precision":
        return replace(goal, least_precision=value)
    return replace(goal, most_abstained=value) if part.name == "max_abstain" else replace(goal, value=value)


def _constructed_values(part: Goal, certifier: Certifier) -> Iterator[float]:
    """Values that are reached by construction, harder ones first."""
    extremes = extreme_thresholds(certifier.test)
    bounds = [
        constructed_bound(part, each, certifier.test.highest_costs, certifier.test.running(each)) for each in extremes
    ]
    hardest = sorted((bound for bound in bounds if bound is not None), reverse=not part.name.startswith("max_"))
    return (typed(part, bound) for bound in hardest)


def _first_failure(goal: Goal, tested: RoutingProblem, stage: np.ndarray, delta: float) -> Goal:
    """The first target that fails its test; ``stage`` (n,) answers each row."""
    for part, guarantee in zip(goal.parts, goal.guarantees(tested, delta), strict=True):
        if not guarantee.p_value(guarantee.outcome(tested, stage)) <= delta:
            return part
    return goal.parts[0]


def _easier_values(failed: Goal, certifier: Certifier) -> Iterator[float]:
    """Easier and easier values of the failed target, of a cascade that may abstain."""
    if not failed.name.startswith("max_"):
        values = 1 - np.geomspace(max(1 - failed.value, LEAST_RISK), 1.0, EASIER)
    else:
        values = np.geomspace(max(failed.value, LEAST_RISK), failed.easiest(certifier.test), EASIER)
    allowed = values[1:] if failed.name != "max_abstain" else values[1:-1]
    return (typed(failed, float(value)) for value in allowed)


def _nearest_budget(goal: Goal, budget: Goal, certifier: Certifier, certifies: Certifies) -> float:
    """The first of rising budgets that is certified. The start of the sequence depends on the budget, so any may fail.

    All proposals are within the last budget by a clear margin.
    """
    highest = CLEAR_OF_ALL * budget.easiest(certifier.test)
    budgets = map(float, np.geomspace(budget.value, highest, EASIER if goal.abstains else BUDGETS)[1:])
    values = [typed(budget, value) for value in budgets]
    both = (replace(goal, budget=replace(budget, value=value)) for value in values)
    return next((goal.targets["max_cost"] for goal in both if certifies(goal)), values[-1])
