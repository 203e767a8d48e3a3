"""From a score table and a target to a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cascade.calibration.certification import certify, split_rows
from cascade.calibration.evaluation import evaluate
from cascade.calibration.goal import Goal
from cascade.calibration.policy import Policy
from cascade.calibration.refusal import refuse_certified, refuse_empirical
from cascade.calibration.router_fitting import RouterChoice, fit_routers
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search import best_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import Router

__all__ = ["RouterChoice", "calibrate"]

Routers = tuple[Router, ...]


def calibrate(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    delta: float | None = None,
    seed: int = 0,
    routers: Sequence[RouterChoice] | None = None,
) -> Policy:
    """Finds the operating point for a target.

    Exactly one target is given. Without a ``delta`` the policy is the best one on the table itself; it misses its
    target on other rows about half of the time, and its certificate says ``"guarantee": "none"``. With one it is
    certified: it keeps its target on the rows to come with probability at least 1 - delta, over the draw of the
    table's rows, which must be independent draws from the same traffic (``cascade.calibration.certification``).

    Args:
        table: n rows, K stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest policy is returned.
        max_accuracy_drop: most accuracy lost against the last stage, in [0, 1]; the cheapest policy is returned.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: most mean cost of a row, in the table's unit; the most accurate policy is returned (the one that
            agrees most with the last stage, where there are no labels).
        delta: risk that the policy breaks its promise, in (0, 1); ``None`` for no promise.
        seed: of the split of the rows into those that search and those that test, where there is a ``delta``.
        routers: (score or head, calibrator) for each stage, names of ``SCORES`` or ``HEADS`` and of ``CALIBRATORS``;
            by default the table's confidences count as they are.

    Raises:
        ValueError: not exactly one target, or an argument out of its range.
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
    if delta is None:
        fitted, thresholds, facts = _empirical(table, goal, routers)
    elif 0 < delta < 1:
        fitted, thresholds, facts = _certified(table, goal, routers, delta, seed)
    else:
        raise ValueError(f"delta must be in (0, 1); got {delta!r}")
    names = tuple(map(str, table.stage))
    cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    policy = Policy(names, fitted, thresholds, cost, table.cost_unit)
    certificate = {
        "guarantee": "none" if delta is None else "certified",
        "target": {goal.name: goal.value},
        "rows": len(table),
        "table_sha256": table.digest,
        "observed": _observed(table, policy),
        **facts,
    }
    return Policy(names, fitted, thresholds, cost, table.cost_unit, certificate)


def _empirical(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None
) -> tuple[Routers, np.ndarray, dict[str, Any]]:
    fitted = fit_routers(table, choices, goal)
    problem = RoutingProblem.from_table(table, fitted, goal.gains_agreement(table))
    thresholds = best_thresholds(problem, goal.search_target(problem))
    if thresholds is None:
        raise refuse_empirical(goal, problem, table.cost_unit)
    return fitted, thresholds, {}


def _certified(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None, delta: float, seed: int
) -> tuple[Routers, np.ndarray, dict[str, Any]]:
    if len(table) < 2:
        raise InfeasibleTarget("one row cannot both propose thresholds and test them; more rows are needed")
    search_rows, test_rows = split_rows(len(table), seed)
    search, test = table.take(search_rows), table.take(test_rows)
    fitted = fit_routers(search, choices, goal)
    agreement = goal.gains_agreement(table)
    sequence = goal.sequence(RoutingProblem.from_table(search, fitted, agreement))
    problem = RoutingProblem.from_table(test, fitted, agreement)
    promise = goal.promise(problem, delta)
    found = certify(promise, problem, sequence, delta)
    if found is None:
        raise refuse_certified(goal, problem, sequence[0], delta, table)
    facts = {
        "delta": delta,
        "seed": seed,
        "test": promise.name,
        "test_rows": found.rows,
        "test_mean": found.observed,
        "p_value": found.p_value,
    }
    return fitted, found.thresholds, facts


def _observed(table: ScoreTable, policy: Policy) -> dict[str, Any]:
    seen = evaluate(table, policy)
    return {
        "accuracy": seen.accuracy,
        "agreement": seen.agreement,
        "mean_cost": seen.mean_cost,
        "cost_unit": seen.cost_unit,
        "stage_share": [float(share) for share in seen.stage_share],
    }
