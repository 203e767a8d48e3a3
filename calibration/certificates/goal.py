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
}


@dataclass(frozen=True)
class Goal:
    """One target of :func:`~cascade.calibration.calibrate.calibrate`, or two: one of gain and a budget.

    Attributes:
        name: "target_accuracy", "max_accuracy_drop", "target_agreement" or "max_cost"; a part may also be
            "max_abstain".
        value: of the target.
        budget: a second one, "max_cost"; only beside a target of gain.
        most_abstained: largest share of rows that may have no answer; a target of accuracy then covers the others.
            ``None`` where every row is answered. Only beside "target_accuracy" or "max_cost".
    """

    name: str
    value: float
    budget: "Goal | None" = None
    most_abstained: float | None = None

    @classmethod
    def of(cls, *, max_abstain: float | None = None, **targets: float | None) -> "Goal":
        """The goal of named targets.

        Args:
            max_abstain: most rows without an answer, in [0, 1); 0 is the same as ``None``.
            targets: by name.

        Raises:
            ValueError: there is no target, or several beside ``max_cost``, or one is not a number or out of its range;
                or ``max_abstain`` comes with a target that abstaining cannot help.
        """
        values: dict[str, object] = {**targets, "max_abstain": max_abstain}
        for name, value in values.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise ValueError(f"{name} must be a number; got {value!r}")
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
        return replace(first, budget=second[0] if second else None)._abstaining(max_abstain)

    def _abstaining(self, most: float | None) -> "Goal":
        if most is None:
            return self
        if not 0 <= most < 1:
            raise ValueError(f"max_abstain must be in [0, 1); got {most!r}")
        if self.name not in ("target_accuracy", "max_cost"):
            raise ValueError(
                f"max_abstain goes with target_accuracy or max_cost; got {self.name}: rows that reach the last stage "
                "never differ from it, so abstaining on them cannot help"
            )
        return replace(self, most_abstained=float(most) or None)

    @property
    def parts(self) -> "list[Goal]":
        """The targets, one goal each."""
        parts = [replace(self, budget=None, most_abstained=None), *([self.budget] if self.budget else [])]
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
        return Target(least_gain=self.value)

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
        return GainGuarantee(self.value)

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
