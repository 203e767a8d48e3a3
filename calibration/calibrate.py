"""From a score table and a target to a policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from cascade.calibration.certificates.bound import certified_bound
from cascade.calibration.certificates.certification import Certified
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.refusal import (
    advise,
    refuse_abstaining,
    refuse_budget,
    refuse_certified,
    refuse_empirical,
)
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.evaluation.evaluation import evaluate
from cascade.calibration.evaluation.table_policy import table_policy
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.policies.policy import Policy
from cascade.calibration.policies.reference import Reference
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import best_abstaining
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.calibration.search.early_deferral import at_constant_costs, best_early_deferral
from cascade.calibration.split_table import SplitTable
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget
from cascade.routers import Router

__all__ = ["Guarantee", "RouterChoice", "calibrate"]

Guarantee = Literal["certified", "none"]


@dataclass(frozen=True, eq=False)
class _Found:
    """The result of a search.

    Attributes:
        routers: K.
        thresholds: (K - 1,); (K,) with ``abstain_below`` as the last one, where the cascade may abstain.
        defer_below: (K - 1,).
        facts: entries of the certificate.
    """

    routers: tuple[Router, ...]
    thresholds: np.ndarray
    defer_below: np.ndarray
    facts: dict[str, Any]


def calibrate(
    table: ScoreTable,
    *,
    target_accuracy: float | None = None,
    max_accuracy_drop: float | None = None,
    target_agreement: float | None = None,
    max_cost: float | None = None,
    max_abstain: float | None = None,
    delta: float = 0.05,
    guarantee: Guarantee = "certified",
    seed: int = 0,
    routers: Sequence[RouterChoice] | None = None,
    early_deferral: bool = False,
    arrivals: Arrivals = DEFAULT_ARRIVALS,
    look: int | None = None,
) -> Policy:
    """Finds the operating point for a target.

    One target is given, or ``max_cost`` and one other; with ``target_accuracy`` or ``max_cost`` the cascade may be
    allowed to abstain. A certified policy reaches all its targets on future data with probability at least 1 - delta
    over the draw of the table's rows, which must be independent draws from the same distribution
    (``cascade.calibration.certificates.certification``). Without a guarantee the policy is the best one on the table
    itself; it may miss its target on future data, and its certificate has ``"guarantee": "none"``.

    Args:
        table: n rows, K stages.
        target_accuracy: least share of right answers, in [0, 1]; the cheapest policy is returned.
        max_accuracy_drop: most accuracy lost compared with the last stage, in [0, 1]; the cheapest policy is returned.
        target_agreement: least share of answers equal to the last stage's, in [0, 1]; needs no labels.
        max_cost: largest mean cost per row, in the table's unit. Alone: the most accurate policy is returned (without
            labels, the one that agrees most with the last stage).
        max_abstain: largest share of rows, in [0, 1), that the last stage may leave to a person; accuracy is then that
            of the answered rows. By default, and at 0, every row is answered.
        delta: risk that a certified policy breaks a guarantee, in (0, 1).
        guarantee: "certified", or "none" for the empirical optimum.
        seed: of the split into searching and testing rows for a certified policy.
        routers: (score or head, calibrator) for each stage, names of ``SCORES`` or ``HEADS`` and of ``CALIBRATORS``;
            by default the table's confidences are used as they are.
        early_deferral: whether to search early-deferral thresholds as well, with which rows that are hopeless for the
            middle stages go to the last stage at once.
        arrivals: how many rows come together; where the table has cost curves, the predicted cost of the cascade for
            them is minimised. A stage that does not pay then gets the threshold ``NEVER``: it does not run.
        look: number of this look, 1 for the first, if calibration may be repeated (with other rows, more rows, or
            another target or seed). Look k is tested at level delta / 2^k, so all looks of the series together violate
            a guarantee with probability at most delta. By default this is the only look, at level delta.

    Raises:
        ValueError: no target or too many, or an argument out of its range; or ``max_abstain`` with ``early_deferral``
            or an incompatible target.
        ScoreTableError: the target needs labels that the table lacks, or a calibrator its scores.
        InfeasibleTarget: the target cannot be reached or certified; names the nearest that can be, and about how many
            more rows it would take.
    """
    ScoreTable.require(table)
    goal = Goal.of(
        target_accuracy=target_accuracy,
        max_accuracy_drop=max_accuracy_drop,
        target_agreement=target_agreement,
        max_cost=max_cost,
        max_abstain=max_abstain,
    )
    if early_deferral and goal.abstains:
        raise ValueError("early_deferral and max_abstain cannot be searched together; leave one of them out")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta!r}")
    if look is not None and (isinstance(look, bool) or not isinstance(look, int) or look < 1):
        raise ValueError(f"look must be a whole number of at least 1; got {look!r}")
    if guarantee not in get_args(Guarantee):
        raise ValueError(f"guarantee must be one of {', '.join(get_args(Guarantee))}; got {guarantee!r}")
    if guarantee == "none":
        found = _empirical(table, goal, routers, early_deferral, arrivals)
    else:
        found = _certified(table, goal, routers, early_deferral, delta, seed, arrivals, look)
    names = tuple(map(str, table.stage))
    thresholds, beyond = np.split(found.thresholds, [table.stages - 1])
    policy = table_policy(table, found.routers, thresholds, arrivals, found.defer_below, float(beyond.sum()))
    certificate = {
        "guarantee": guarantee,
        "target": goal.targets,
        "rows": len(table),
        "table_sha256": table.digest,
        "model_sha256": {} if table.model is None else dict(zip(names, map(str, table.model), strict=True)),
        "observed": _observed(table, policy),
        **({} if routers is None else {"routers": [list(choice) for choice in routers]}),
        **({} if table.prices(arrivals) is None else {"cost_is": _cost_basis(table, arrivals)}),
        **({"curves_measured_on": table.curve_machine or "an unnamed machine"} if table.has_curves else {}),
        **found.facts,
    }
    return replace(policy, certificate=certificate)


def _cost_basis(table: ScoreTable, arrivals: Arrivals) -> str:
    return (
        f"mean {table.cost_unit} per row of the stages that look at it, predicted by cost curves for {arrivals}; "
        "it is not the wall-clock time of requests"
    )


def _empirical(
    table: ScoreTable, goal: Goal, choices: Sequence[RouterChoice] | None, early_deferral: bool, arrivals: Arrivals
) -> _Found:
    fitted = fit_routers(table, choices, goal)
    problem = RoutingProblem.from_table(table, fitted, goal.gains_agreement(table), goal.abstains, arrivals)
    if goal.abstains:
        found = best_abstaining(problem, goal.limits())
        if found is None:
            raise refuse_abstaining(goal, problem, table.cost_unit)
        defer_below = np.zeros(table.stages - 1)
        log_choices = len(found) * np.log(len(table) + 1)
        return _Found(fitted, found, defer_below, _reference(table, fitted, found, defer_below, log_choices))
    defer_below = np.zeros(table.stages - 1)
    if early_deferral:
        problem = at_constant_costs(problem, goal.search_target)
        defer_below = best_early_deferral(problem, goal.search_target(problem))
        problem = problem.deferring_early(defer_below)
    thresholds = best_thresholds(problem, goal.search_target(problem))
    if thresholds is None:
        raise refuse_empirical(goal, problem, table.cost_unit)
    cost = problem.value(thresholds)[1]
    if goal.budget and cost > goal.budget.value:
        raise refuse_budget(goal, cost, table.cost_unit)
    # At most n + 1 values of each threshold have different effects on n rows.
    log_choices = (1 + early_deferral) * len(thresholds) * np.log(len(table) + 1)
    return _Found(fitted, thresholds, defer_below, _reference(table, fitted, thresholds, defer_below, log_choices))


def _certified(
    table: ScoreTable,
    goal: Goal,
    choices: Sequence[RouterChoice] | None,
    early_deferral: bool,
    delta: float,
    seed: int,
    arrivals: Arrivals,
    look: int | None,
) -> _Found:
    gain = table.agrees if goal.gains_agreement(table) else table.correct  # refuses a table without labels
    if len(gain) < 2:
        raise InfeasibleTarget("one row cannot both propose thresholds and test them; more rows are needed")
    level = delta if look is None else delta / 2**look
    split = SplitTable.of(table, seed, choices, early_deferral, arrivals)
    fitted = split.fitted(goal)
    certifier = fitted.certifier

    def again(other: Goal) -> Certified | None:
        return (split.fitted(other).certifier if split.depends_on_value else certifier).certify(other, level)

    found = certifier.certify(goal, level)
    if found is None:
        raise refuse_certified(goal, certifier, level, table, lambda other: again(other) is not None)
    facts = {
        "delta": delta,
        "seed": seed,
        "tests": _tests(goal, certifier, found, level),
        "duplicate_rows": split.duplicate_rows,
        **({} if look is None else {"look": look, "level": level}),
    }
    if not certifier.is_tested(goal, found):
        facts["advice"], facts["nearest_tested"] = advise(
            goal, certifier, level, len(table), lambda other: certifier.is_tested(other, again(other))
        )
    # The testing rows only chose a place in a sequence.
    log_choices = np.log(len(certifier.sequence(goal)))
    facts |= _reference(split.test, fitted.routers, found.thresholds, fitted.defer_below, log_choices)
    return _Found(fitted.routers, found.thresholds, fitted.defer_below, facts)


def _reference(
    table: ScoreTable, routers: tuple[Router, ...], thresholds: np.ndarray, defer_below: np.ndarray, log_choices: float
) -> dict[str, Any]:
    """What an audit compares traffic with; abstaining does not change it."""
    reference = Reference.of(table, routers, thresholds[: table.stages - 1], defer_below, float(log_choices))
    return {"reference": reference.to_dict()}


def _tests(goal: Goal, certifier: Certifier, found: Certified, delta: float) -> list[dict[str, Any]]:
    tested = certifier.tested(goal, found.thresholds)
    guarantees = goal.guarantees(tested, delta)
    outcomes = [guarantee.outcome(tested, found.stage) for guarantee in guarantees]
    constructed = certifier.constructed(goal, found.thresholds)
    return [
        {
            "target": part.name,
            "test": guarantee.test if certain is None else "by construction",
            "rows": len(outcome),
            "observed": float(outcome.mean()),
            **({"highest_cost": guarantee.highest} if isinstance(guarantee, CostGuarantee) else {}),
            "bound": certified_bound(part, tested, found.stage, delta) if certain is None else certain,
            "p_value": p_value,
        }
        for part, guarantee, outcome, p_value, certain in zip(
            goal.parts, guarantees, outcomes, found.p_values, constructed, strict=True
        )
    ]


def _observed(table: ScoreTable, policy: Policy) -> dict[str, Any]:
    seen = evaluate(table, policy)
    return {
        "accuracy": seen.accuracy,
        "agreement": seen.agreement,
        "mean_cost": seen.mean_cost,
        "cost_unit": seen.cost_unit,
        "last_stage_cost": seen.last_stage_cost,
        "stage_share": [float(share) for share in seen.stage_share],
        "reached_share": [float(share) for share in seen.reached_share],
        **({"abstained": seen.abstained} if policy.abstains else {}),
    }
