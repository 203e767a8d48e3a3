"""From a score table and a target to a policy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from cascade.calibration.certificates.bound import certified_bound
from cascade.calibration.certificates.certification import Certified, split_rows
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.refusal import refuse_budget, refuse_certified, refuse_empirical
from cascade.calibration.evaluation import evaluate
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import Router

__all__ = ["Guarantee", "RouterChoice", "calibrate"]

Guarantee = Literal["certified", "none"]

Routers = tuple[Router, ...]


def calibrate(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    delta: float = 0.05,
    guarantee: Guarantee = "certified",
    seed: int = 0,
    routers: Sequence[RouterChoice] | None = None,
) -> Policy:
    """Finds the operating point for a target.

    One target is given, or ``max_cost`` and one other. A certified policy keeps its targets, all of them, on the rows
    to come with probability at least 1 - delta over the draw of the table's rows, which must be independent draws from
    the same traffic (``cascade.calibration.certificates.certification``). Without a guarantee the policy is the best
    one on the table itself; it misses its target on other rows about half of the time, and its certificate says
    ``"guarantee": "none"``.

    Args:
        table: n rows, K stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest policy is returned.
        max_accuracy_drop: most accuracy lost against the last stage, in [0, 1]; the cheapest policy is returned.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: most mean cost of a row, in the table's unit. Alone: the most accurate policy is returned (the one
            that agrees most with the last stage, where there are no labels).
        delta: risk that a certified policy breaks a promise, in (0, 1).
        guarantee: "certified", or "none" for the empirical optimum.
        seed: of the split of the rows into those that search and those that test a certified policy.
        routers: (score or head, calibrator) for each stage, names of ``SCORES`` or ``HEADS`` and of ``CALIBRATORS``;
            by default the table's confidences count as they are.

    Raises:
        ValueError: no target or too many, or an argument out of its range.
        ScoreTableError: the target needs labels that the table lacks, or a calibrator its scores.
        InfeasibleTarget: the target cannot be reached, or not be certified; names the nearest that can be, and about
            how many more rows it would take.
    """
    goal = Goal.of(
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
    )
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta!r}")
    if guarantee not in get_args(Guarantee):
        raise ValueError(f"guarantee must be one of {', '.join(get_args(Guarantee))}; got {guarantee!r}")
    if guarantee == "none":
        fitted, thresholds, facts = _empirical(table, goal, routers)
    else:
        fitted, thresholds, facts = _certified(table, goal, routers, delta, seed)
    names = tuple(map(str, table.stage))
    cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    policy = Policy(names, fitted, thresholds, cost, table.cost_unit)
    certificate = {
        "guarantee": guarantee,
        "target": goal.targets,
        "rows": len(table),
        "table_sha256": table.digest,
        "model_sha256": {} if table.model is None else dict(zip(names, map(str, table.model), strict=True)),
        "observed": _observed(table, policy),
        **facts,
    }
    return replace(policy, certificate=certificate)


def _empirical(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None
) -> tuple[Routers, np.ndarray, dict[str, Any]]:
    fitted = fit_routers(table, choices, goal)
    problem = RoutingProblem.from_table(table, fitted, goal.gains_agreement(table))
    thresholds = best_thresholds(problem, goal.search_target(problem))
    if thresholds is None:
        raise refuse_empirical(goal, problem, table.cost_unit)
    cost = problem.value(thresholds)[1]
    if goal.budget and cost > goal.budget.value:
        raise refuse_budget(goal, cost, table.cost_unit)
    return fitted, thresholds, {}


def _certified(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None, delta: float, seed: int
) -> tuple[Routers, np.ndarray, dict[str, Any]]:
    agreement = goal.gains_agreement(table)
    gain = table.agrees if agreement else table.correct  # refuses a table without labels, however short
    if len(gain) < 2:
        raise InfeasibleTarget("one row cannot both propose thresholds and test them; more rows are needed")
    search_rows, test_rows = split_rows(len(table), seed)
    search = table.take(search_rows)
    fitted = fit_routers(search, choices, goal)
    certifier = Certifier(
        RoutingProblem.from_table(search, fitted, agreement),
        RoutingProblem.from_table(table.take(test_rows), fitted, agreement),
    )
    found = certifier.certify(goal, delta)
    if found is None:
        raise refuse_certified(goal, certifier, delta, table)
    return fitted, found.thresholds, {"delta": delta, "seed": seed, "tests": _tests(goal, certifier, found, delta)}


def _tests(goal: Goal, certifier: Certifier, found: Certified, delta: float) -> list[dict[str, Any]]:
    return [
        {
            "target": part.name,
            "test": promise.test,
            "rows": len(found.stage),
            "observed": float(promise.outcome(certifier.test, found.stage).mean()),
            "bound": certified_bound(part, certifier.test, found.stage, delta),
            "p_value": p_value,
        }
        for part, promise, p_value in zip(goal.parts, goal.promises(certifier.test, delta), found.p_values, strict=True)
    ]


def _observed(table: ScoreTable, policy: Policy) -> dict[str, Any]:
    seen = evaluate(table, policy)
    return {
        "accuracy": seen.accuracy,
        "agreement": seen.agreement,
        "mean_cost": seen.mean_cost,
        "cost_unit": seen.cost_unit,
        "stage_share": [float(share) for share in seen.stage_share],
    }
