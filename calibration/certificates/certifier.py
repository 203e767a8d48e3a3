"""A certifier: proposes thresholds on some rows and certifies goals on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.calibration.certificates.certification import Certified, at_constant_costs, certify
from cascade.calibration.certificates.construction import constructed_bound, extreme_thresholds
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.sequences import propose, propose_abstaining, propose_precise
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.frontier import OperatingPoint
from cascade.routers import answering_stage

__all__ = ["Certifier"]


@dataclass(frozen=True, eq=False)
class Certifier:
    """The rows of a calibration, split into two problems with the same routers.

    Several goals may be certified on one split, all with abstaining or all without. Each certificate holds with its own
    probability; no statement is made about all of them together.

    Attributes:
        search: rows that propose thresholds (routers were fitted on them too), preferably with smoothed gains
            (:func:`~cascade.calibration.certificates.smoothing.smoothed`).
        test: rows that had no part in that.
    """

    search: RoutingProblem
    test: RoutingProblem

    @cached_property
    def proposed(self) -> list[OperatingPoint]:
        """By rising cost and gain."""
        return propose(self.search)

    def sequence(self, goal: Goal) -> list[np.ndarray]:
        """The proposed thresholds (K - 1,) in the order of their tests, the safest first; (K,) with abstaining."""
        if goal.most_abstained is not None:
            return propose_abstaining(goal, self.search, len(self.test))
        if goal.least_precision is not None:
            return propose_precise(self.search, len(self.test), goal.value, goal.least_precision)
        return [proposal.thresholds for proposal in goal.order(self.proposed, self.search, len(self.test))]

    def constructed(self, goal: Goal, thresholds: np.ndarray) -> list[float | None]:
        """The bound of each part of a goal that thresholds reach by construction; ``None`` where a test is needed."""
        running = self.test.running(thresholds)
        bounds = [constructed_bound(part, thresholds, self.test.highest_costs, running) for part in goal.parts]
        return [
            bound if bound is not None and part.is_reached_at(bound) else None
            for part, bound in zip(goal.parts, bounds, strict=True)
        ]

    def is_tested(self, goal: Goal, found: Certified | None) -> bool:
        """Whether a goal is certified, and at least one part of it by a test."""
        return found is not None and None in self.constructed(goal, found.thresholds)

    def certify(self, goal: Goal, delta: float) -> Certified | None:
        """The last thresholds of the sequence that passed, or ``None`` if the goal cannot be certified.

        If the first ones fail, a single stage alone may still reach the goal by construction.
        """
        found = self._certified(goal, self.sequence(goal), delta)
        if found is not None or goal.abstains:
            return found
        extremes = [each for each in extreme_thresholds(self.test) if None not in self.constructed(goal, each)]
        if not extremes:
            return None
        safest = max(extremes, key=lambda thresholds: self.search.value(thresholds)[0])
        return Certified(safest, answering_stage(self.test.confidence, safest), (0.0,) * len(goal.parts))

    def first_failure(self, goal: Goal, delta: float) -> np.ndarray | None:
        """The first thresholds of the sequence that fail; ``None`` if all pass."""
        failures = (each for each in self.sequence(goal) if self._certified(goal, [each], delta) is None)
        return next(failures, None)

    def _certified(self, goal: Goal, sequence: Sequence[np.ndarray], delta: float) -> Certified | None:
        return certify(
            goal,
            self.test,
            sequence,
            delta,
            self.search,
            lambda thresholds: [bound is not None for bound in self.constructed(goal, thresholds)],
        )

    def safest(self, goal: Goal) -> np.ndarray:
        """The safest thresholds that need a test."""
        sequence = self.sequence(goal)
        return next((each for each in sequence if None in self.constructed(goal, each)), sequence[0])

    def tested(self, goal: Goal, thresholds: np.ndarray) -> RoutingProblem:
        """The problem on which a goal is tested at some thresholds (K - 1,)."""
        return at_constant_costs(goal, self.test, thresholds, self.search)
