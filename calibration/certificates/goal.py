"""A goal: the targets of a calibration, and what they mean for the search and for the tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.guarantees import (
    AbstentionGuarantee,
    DropGuarantee,
    GainGuarantee,
    MeanGuarantee,
    PrecisionGuarantee,
    RecallGuarantee,
)
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import Limits
from cascade.calibration.search.best_thresholds import Target
from cascade.calibration.search.frontier import OperatingPoint
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["QUANTITIES", "Goal"]

# Standard errors of the difference between the mean cost on the proposing and on the testing rows. With this margin a
# betting test nearly always passes; with 2 it failed more often, with 3 tight budgets leave few proposals.
CLEAR_MARGIN = 2.5

QUANTITIES = {
    "target_accuracy": "accuracy",
    "max_accuracy_drop": "accuracy drop",
    "target_agreement": "agreement",
    "max_cost": "mean cost",
    "max_abstain": "abstained share",
    "min_recall": "recall",
    "min_precision": "precision",
}


@dataclass(frozen=True)
class Goal:
    """One target of :func:`~cascade.calibration.calibrate.calibrate`, or two: one of gain and one beside it.

    Attributes:
        name: "target_accuracy", "max_accuracy_drop", "target_agreement", "min_recall" or "max_cost"; a part may also
            be "max_abstain" or "min_precision".
        value: of the target.
        budget: a second one, "max_cost"; only beside a target of gain.
        most_abstained: largest share of rows that may have no answer; a target of accuracy then covers the others.
            ``None`` where every row is answered. Only beside "target_accuracy" or "max_cost".
        positive: the positive class of "min_recall" and "min_precision"; ``None`` for other targets.
        least_precision: least share of the rows answered as positive that are positive. Only beside "min_recall".
    """

    name: str
    value: float
    budget: "Goal | None" = None
    most_abstained: float | None = None
    positive: int | None = None
    least_precision: float | None = None

    @classmethod
    def of(
        cls,
        positive: int | None = None,
        /,
        *,
        max_abstain: float | None = None,
        min_precision: float | None = None,
        **targets: float | None,
    ) -> "Goal":
        """The goal of named targets.

        Args:
            positive: class of "min_recall".
            max_abstain: most rows without an answer, in [0, 1); 0 is the same as ``None``.
            min_precision: beside "min_recall" alone.
            targets: by name.

        Raises:
            ValueError: there is no target, or several beside ``max_cost``, or one is not a number or out of its range;
                or ``max_abstain`` comes with a target that abstaining cannot help.
        """
        values: dict[str, object] = {**targets, "max_abstain": max_abstain, "min_precision": min_precision}
        for name, value in values.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise ValueError(f"{name} must be a number; got {value!r}")
        if min_precision is not None and targets.get("min_recall") is None:
            raise ValueError("min_precision goes with min_recall: without it, no row need be answered as positive")
        given = {name: value for name, value in targets.items() if value is not None}
        gains = [cls(name, float(value)) for name, value in given.items() if name != "max_cost"]
        budget = cls("max_cost", float(given["max_cost"])) if "max_cost" in given else None
        if not given or len(gains) > 1:
            raise ValueError(f"give one of {', '.join(targets)}, or max_cost and one other; got {given or 'none'}")
        if budget and not (np.isfinite(budget.value) and budget.value > 0):
            raise ValueError(f"max_cost must be a positive number; got {budget.value!r}")
        for goal in gains:
            if not 0 <= goal.value <= 1:
                raise ValueError(f"{goal.name} must be in [0, 1]; got {goal.value!r}")
        first, *second = [*gains, *([budget] if budget else [])]
        goal = replace(first, budget=second[0] if second else None)
        return goal._detecting(positive, min_precision)._abstaining(max_abstain)

    def _detecting(self, positive: int | None, least_precision: float | None) -> "Goal":
        if self.name != "min_recall":
            if positive is not None:
                raise ValueError(f"positive goes with min_recall; got {self.name}")
            return self
        if positive is None:
            raise ValueError("min_recall needs the positive class ('positive')")
        if least_precision is not None and not 0 <= least_precision <= 1:
            raise ValueError(f"min_precision must be in [0, 1]; got {least_precision!r}")
        if least_precision is not None and self.budget is not None:
            raise ValueError("min_recall goes with max_cost or with min_precision; leave one of them out")
        least = None if least_precision is None else float(least_precision)
        return replace(self, positive=positive, least_precision=least)

    def _abstaining(self, most: float | None) -> "Goal":
        if most is None:
            return self
        if not 0 <= most < 1:
            raise ValueError(f"max_abstain must be in [0, 1); got {most!r}")
        if self.name not in ("target_accuracy", "max_cost"):
            raise ValueError(
                f"max_abstain goes with target_accuracy or max_cost; got {self.name}"
                + (
                    ": a positive row without an answer is not detected, so abstaining cannot help"
                    if self.name == "min_recall"
                    else ": rows that reach the last stage never differ from it, so abstaining on them cannot help"
                )
            )
        return replace(self, most_abstained=float(most) or None)

    @property
    def parts(self) -> "list[Goal]":
        """The targets, one goal each."""
        alone = replace(self, budget=None, most_abstained=None, least_precision=None)
        parts = [alone, *([self.budget] if self.budget else [])]
        if self.least_precision is not None:
            parts.append(Goal("min_precision", self.least_precision, positive=self.positive))
        return parts if self.most_abstained is None else [*parts, Goal("max_abstain", self.most_abstained)]

    @property
    def targets(self) -> dict[str, float]:
        """Name and value of each target."""
        return {part.name: part.value for part in self.parts}

    def gains_agreement(self, table: ScoreTable) -> bool:
        """Whether the gain is agreement with the last stage instead of accuracy."""
        # Rows that reach the last stage always agree with it: only wrong answers are a reason to abstain.
        unlabelled = table.label is None and self.most_abstained is None
        return self.name == "target_agreement" or (self.name in ("max_cost", "max_abstain") and unlabelled)

    @property
    def tests_positives_only(self) -> bool:
        """Whether its only test is on positive rows."""
        return self.positive is not None and self.budget is None and self.least_precision is None

    @property
    def quantity(self) -> str:
        """Name of the target's quantity, for messages."""
        return QUANTITIES[self.name]

    def is_reached_at(self, value: float) -> bool:
        """Whether a value of the (first) target's quantity reaches the target."""
        return value <= self.value if self.name.startswith("max_") else value >= self.value

    def easiest(self, problem: RoutingProblem) -> float:
        """The value of the target that every cascade reaches."""
        if self.name == "max_cost":
            return problem.highest_cost
        return 1.0 if self.name in ("max_accuracy_drop", "max_abstain") else 0.0

    def limits(self) -> Limits:
        """Limits for the thresholds of a cascade that may abstain, on the rows of a problem."""
        values = self.targets
        return Limits(values["max_abstain"], values.get("target_accuracy"), values.get("max_cost", np.inf))

    @property
    def abstains(self) -> bool:
        """Whether rows may have no answer."""
        return self.most_abstained is not None

    def search_target(self, problem: RoutingProblem) -> Target:
        """The target on the rows of a problem; of two, that of gain: the cheapest thresholds fit a budget best."""
        if self.name == "max_cost":
            return Target(most_cost=self.value)
        if self.name == "max_accuracy_drop":
            return Target(least_gain=float(problem.gain[:, -1].mean()) - self.value)
        # Only positive rows gain.
        share = 1.0 if problem.detection is None else problem.detection.share
        return Target(least_gain=self.value * share)

    def guarantee(self, problem: RoutingProblem, delta: float) -> MeanGuarantee:
        """The guarantee of the (first) target on future data.

        Args:
            problem: gives the highest cost per row.
            delta: level of the test.
        """
        if self.name == "max_cost":
            return CostGuarantee(self.value, problem.highest_cost, delta)
        if self.name == "max_accuracy_drop":
            return DropGuarantee(self.value, delta)
        if self.name == "max_abstain":
            return AbstentionGuarantee(self.value)
        kinds = {"min_recall": RecallGuarantee, "min_precision": PrecisionGuarantee}
        return kinds.get(self.name, GainGuarantee)(self.value)

    def guarantees(self, problem: RoutingProblem, delta: float) -> list[MeanGuarantee]:
        """The guarantee of each target."""
        return [part.guarantee(problem, delta) for part in self.parts]

    def order(
        self, proposals: Sequence[OperatingPoint], problem: RoutingProblem, tested_rows: int
    ) -> list[OperatingPoint]:
        """The order in which proposals are tested, the safest first.

        For a cost the cheapest is the safest, for a gain the one that gains most, and for both the one that gains most
        among those within the budget by a clear margin; the order then goes to cheaper ones.

        Args:
            proposals: by rising cost and gain.
            problem: the proposing rows.
            tested_rows: number of testing rows.
        """
        if self.name == "max_cost":
            return list(proposals)
        most = len(proposals)
        if self.budget is not None:
            within = [_clearly_within(self.budget.value, each, problem, tested_rows) for each in proposals]
            most = max(1, int(np.count_nonzero(within)))
        return list(proposals[:most])[::-1]


def _clearly_within(budget: float, proposal: OperatingPoint, problem: RoutingProblem, tested_rows: int) -> bool:
    error = problem.row_cost(proposal.thresholds).std() * (1 / tested_rows + 1 / len(problem)) ** 0.5
    return bool(budget - proposal.cost >= CLEAR_MARGIN * error)
