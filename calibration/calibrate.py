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
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.evaluation import evaluate
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.monitoring.reference import Reference
from cascade.calibration.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.calibration.search.lower_thresholds import best_lower_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import Router

__all__ = ["Guarantee", "RouterChoice", "calibrate"]

Guarantee = Literal["certified", "none"]

Found = tuple[tuple[Router, ...], np.ndarray, np.ndarray, dict[str, Any]]
"""Routers, thresholds, lower thresholds, and entries of the certificate."""


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
    skip: bool = False,
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
        skip: also look for lower thresholds, so that rows which are hopeless for the middle stages skip them.

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
        fitted, thresholds, lowest, facts = _empirical(table, goal, routers, skip)
    else:
        fitted, thresholds, lowest, facts = _certified(table, goal, routers, skip, delta, seed)
    names = tuple(map(str, table.stage))
    cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    rate = np.zeros(0) if table.cost_per_mflop is None else table.cost_per_mflop
    policy = Policy(names, fitted, thresholds, cost, table.cost_unit, skip_below=lowest, cost_per_mflop=rate)
    certificate = {
        "guarantee": guarantee,
        "target": goal.targets,
        "rows": len(table),
        "table_sha256": table.digest,
        "model_sha256": {} if table.model is None else dict(zip(names, map(str, table.model), strict=True)),
        "observed": _observed(table, policy),
        **({} if routers is None else {"routers": [list(choice) for choice in routers]}),
        **facts,
    }
    return replace(policy, certificate=certificate)


def _empirical(table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None, skip: bool) -> Found:
    fitted = fit_routers(table, choices, goal)
    problem = RoutingProblem.from_table(table, fitted, goal.gains_agreement(table))
    lowest = _lower_thresholds(problem, goal, skip)
    problem = problem.skipping(lowest)
    thresholds = best_thresholds(problem, goal.search_target(problem))
    if thresholds is None:
        raise refuse_empirical(goal, problem, table.cost_unit)
    cost = problem.value(thresholds)[1]
    if goal.budget and cost > goal.budget.value:
        raise refuse_budget(goal, cost, table.cost_unit)
    # At most n + 1 values of each threshold do different things to n rows.
    log_choices = (1 + skip) * len(thresholds) * np.log(len(table) + 1)
    reference = Reference.of(table, fitted, thresholds, lowest, float(log_choices))
    return fitted, thresholds, lowest, {"reference": reference.to_dict()}


def _certified(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None, skip: bool, delta: float, seed: int
) -> Found:
    agreement = goal.gains_agreement(table)
    gain = table.agrees if agreement else table.correct  # refuses a table without labels, however short
    if len(gain) < 2:
        raise InfeasibleTarget("one row cannot both propose thresholds and test them; more rows are needed")
    search_rows, test_rows = split_rows(len(table), seed)
    search = table.take(search_rows)
    fitted = fit_routers(search, choices, goal)
    smooth = smoothed(RoutingProblem.from_table(search, fitted, agreement))
    lowest = _lower_thresholds(smooth, goal, skip)
    test_table = table.take(test_rows)
    test = RoutingProblem.from_table(test_table, fitted, agreement)
    certifier = Certifier(smooth.skipping(lowest), test.skipping(lowest))
    found = certifier.certify(goal, delta)
    if found is None:
        raise refuse_certified(goal, certifier, delta, table)
    # The testing rows only chose how far to go along a sequence.
    log_choices = float(np.log(len(certifier.sequence(goal))))
    reference = Reference.of(test_table, fitted, found.thresholds, lowest, log_choices)
    return (
        fitted,
        found.thresholds,
        lowest,
        {
            "delta": delta,
            "seed": seed,
            "tests": _tests(goal, certifier, found, delta),
            "reference": reference.to_dict(),
        },
    )


def _lower_thresholds(problem: RoutingProblem, goal: Goal, skip: bool) -> np.ndarray:
    """(K - 1,), chosen before the thresholds; zeros where rows are not to skip."""
    if not skip:
        return np.zeros(problem.confidence.shape[1])
    return best_lower_thresholds(problem, goal.search_target(problem))


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
