"""One calibration: the search for an operating point on a score table, with a guarantee or without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.certificates.bound import certified_bound
from cascade.calibration.certificates.certification import Certified
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.more_rows import refuse_without_positives
from cascade.calibration.certificates.refusal import (
    advise,
    refuse_abstaining,
    refuse_budget,
    refuse_certified,
    refuse_empirical,
)
from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.policies.reference import Reference
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import best_abstaining
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.calibration.search.early_deferral import at_constant_costs, best_early_deferral
from cascade.calibration.search.precise_points import cheapest_precise
from cascade.calibration.split_table import SplitTable
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget
from cascade.routers import Router

__all__ = ["CalibrationRun", "FoundPoint"]


@dataclass(frozen=True, eq=False)
class FoundPoint:
    """The operating point of a search.

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


@dataclass(frozen=True, eq=False)
class CalibrationRun:
    """A table, a goal and the settings of the search.

    Attributes:
        table: n rows, K stages.
        goal: the targets.
        choices: (score or head, calibrator) for each stage; ``None`` for the confidences as they are.
        early_deferral: whether to search early-deferral thresholds.
        arrivals: how many rows come together, where the table has cost curves.
    """

    table: ScoreTable
    goal: Goal
    choices: Sequence[RouterChoice] | None
    early_deferral: bool
    arrivals: Arrivals

    def empirical(self) -> FoundPoint:
        """The best operating point on the table itself.

        Raises:
            InfeasibleTarget: no operating point reaches the targets there.
        """
        table, goal = self.table, self.goal
        refuse_without_positives(goal, table, 1)
        routers = fit_routers(table, self.choices, goal)
        problem = RoutingProblem.from_table(
            table, routers, goal.gains_agreement(table), goal.abstains, self.arrivals, goal.positive
        )
        defer_below = np.zeros(table.stages - 1)
        if goal.abstains:
            thresholds = best_abstaining(problem, goal.limits())
            if thresholds is None:
                raise refuse_abstaining(goal, problem, table.cost_unit)
        else:
            if self.early_deferral:
                problem = at_constant_costs(problem, goal.search_target)
                defer_below = best_early_deferral(problem, goal.search_target(problem))
                problem = problem.deferring_early(defer_below)
            thresholds = (
                best_thresholds(problem, goal.search_target(problem))
                if goal.least_precision is None
                else cheapest_precise(problem, goal.value, goal.least_precision)
            )
            if thresholds is None:
                raise refuse_empirical(goal, problem, table.cost_unit)
            cost = problem.value(thresholds)[1]
            if goal.budget and cost > goal.budget.value:
                raise refuse_budget(goal, cost, table.cost_unit)
        # At most n + 1 values of each threshold have different effects on n rows.
        log_choices = (1 + self.early_deferral) * len(thresholds) * np.log(len(table) + 1)
        reference = _reference(table, routers, thresholds, defer_below, log_choices)
        return FoundPoint(routers, thresholds, defer_below, reference)

    def certified(self, delta: float, seed: int, look: int | None) -> FoundPoint:
        """The operating point that the testing rows certify.

        Args:
            delta: in (0, 1).
            seed: of the split.
            look: number of this look of a series, from 1; ``None`` if it is the only one.

        Raises:
            InfeasibleTarget: the targets cannot be certified.
        """
        table, goal = self.table, self.goal
        gain = table.agrees if goal.gains_agreement(table) else table.correct  # refuses a table without labels
        if len(gain) < 2:
            raise InfeasibleTarget("one row cannot both propose thresholds and test them; more rows are needed")
        refuse_without_positives(goal, table, 2)
        level = delta if look is None else delta / 2**look
        strata = table.label == goal.positive if goal.tests_positives_only and table.label is not None else None
        split = SplitTable.of(table, seed, self.choices, self.early_deferral, self.arrivals, strata)
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
            **({} if goal.positive is None else {"testing_rows": len(split.test)}),
            **({} if look is None else {"look": look, "level": level}),
        }
        if not certifier.is_tested(goal, found):
            facts["advice"], facts["nearest_tested"] = advise(
                goal, certifier, level, len(table), lambda other: certifier.is_tested(other, again(other))
            )
        # The testing rows only chose a place in a sequence.
        log_choices = np.log(len(certifier.sequence(goal)))
        facts |= _reference(split.test, fitted.routers, found.thresholds, fitted.defer_below, log_choices)
        return FoundPoint(fitted.routers, found.thresholds, fitted.defer_below, facts)


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
