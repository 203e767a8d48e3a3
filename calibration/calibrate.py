"""From a score table and a target to a policy."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cascade.calibration.calibrator_fitting import fit_calibrator
from cascade.calibration.calibrators import Identity
from cascade.calibration.evaluation import evaluate
from cascade.calibration.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable
from cascade.calibration.search import Target, best_thresholds
from cascade.errors import InfeasibleTarget
from cascade.routers import NEVER, Router

__all__ = ["RouterChoice", "calibrate"]

RouterChoice = tuple[str, str]
"""Names of a score and of a calibrator."""


def calibrate(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    routers: Sequence[RouterChoice] | None = None,
) -> Policy:
    """Finds the operating point that is best on a score table.

    Exactly one target is given. The policy meets it on the table itself; its certificate says that nothing is
    promised beyond (``"guarantee": "none"``).

    Args:
        table: n rows, K stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest policy is returned.
        max_accuracy_drop: most accuracy lost against the last stage, in [0, 1]; the cheapest policy is returned.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: most mean cost of a row, in the table's unit; the most accurate policy is returned (the one that
            agrees most with the last stage, where there are no labels).
        routers: (score, calibrator) for each stage; by default the table's confidences count as they are.

    Raises:
        ValueError: not exactly one target, or one out of its range.
        ScoreTableError: the target needs labels that the table lacks, or a calibrator its scores.
        InfeasibleTarget: no thresholds reach the target; names the nearest that can be reached.
    """
    name, value = _one_target(
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
    )
    agreement = name == "target_agreement" or (name == "max_cost" and table.label is None)
    fitted = _fit_routers(table, routers, agreement)
    problem = RoutingProblem.from_table(table, fitted, agreement)
    target = _search_target(problem, name, value)
    thresholds = best_thresholds(problem, target)
    if thresholds is None:
        raise _infeasible(problem, table, name, value)
    cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    policy = Policy(tuple(map(str, table.stage)), fitted, thresholds, cost, table.cost_unit)
    return replace(policy, certificate=_certificate(table, policy, name, value))


def _one_target(**targets: float | None) -> tuple[str, float]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(targets)}; got {given or 'none'}")
    ((name, value),) = given.items()
    if name == "max_cost" and not (np.isfinite(value) and value > 0):
        raise ValueError(f"max_cost must be a positive number; got {value!r}")
    if name != "max_cost" and not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]; got {value!r}")
    return name, float(value)


def _fit_routers(table: ScoreTable, choices: Sequence[RouterChoice] | None, agreement: bool) -> tuple[Router, ...]:
    if choices is None:
        return (Router(None, Identity()),) * table.stages
    if len(choices) != table.stages:
        raise ValueError(f"routers must be {table.stages} pairs (score, calibrator); got {len(choices)}")
    label = table.prediction[:, -1] if agreement or table.label is None else table.label
    return tuple(
        Router(
            score,
            fit_calibrator(
                calibrator,
                score,
                table.confidence[:, k],
                None if table.scores is None else table.scores[:, k],
                label,
                table.prediction[:, k],
            ),
        )
        for k, (score, calibrator) in enumerate(choices)
    )


def _search_target(problem: RoutingProblem, name: str, value: float) -> Target:
    if name == "max_cost":
        return Target(most_cost=value)
    if name == "max_accuracy_drop":
        return Target(least_gain=float(problem.gain[:, -1].mean()) - value)
    return Target(least_gain=value)


def _infeasible(problem: RoutingProblem, table: ScoreTable, name: str, value: float) -> InfeasibleTarget:
    if name == "max_cost":
        nearest = float(problem.cost[:, 0].mean())
        return InfeasibleTarget(
            f"no policy costs at most {value:g} {table.cost_unit} a row: "
            f"the first stage alone costs {nearest:.6g} {table.cost_unit}",
            nearest,
        )
    best = best_thresholds(problem, Target(most_cost=np.inf))
    nearest = problem.value(np.full(table.stages - 1, NEVER) if best is None else best)[0]
    what = "agreement" if name == "target_agreement" else "accuracy"
    return InfeasibleTarget(
        f"no policy reaches {what} {value:.6g} on these {len(table)} rows; the nearest reachable is {nearest:.6g}",
        nearest,
    )


def _certificate(table: ScoreTable, policy: Policy, name: str, value: float) -> dict[str, Any]:
    seen = evaluate(table, policy)
    return {
        "guarantee": "none",
        "target": {name: value},
        "rows": len(table),
        "table_sha256": table.digest,
        "observed": {
            "accuracy": seen.accuracy,
            "agreement": seen.agreement,
            "mean_cost": seen.mean_cost,
            "cost_unit": seen.cost_unit,
            "stage_share": [float(share) for share in seen.stage_share],
        },
    }
