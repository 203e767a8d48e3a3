"""A certifier: proposes thresholds on some rows and certifies goals on others."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.calibration.certificates.abstaining_sequence import propose_abstaining
from cascade.calibration.certificates.certification import Certified, at_constant_costs, certify
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.sequence import propose
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.frontier import OperatingPoint

__all__ = ["Certifier"]


@dataclass(frozen=True, eq=False)
class Certifier:
    """The rows of a calibration, split into two problems with the same routers.

    Several goals may be certified on one split, all with abstaining or all without; each certificate holds with its own
    probability, not all of them together.

    Attributes:
        search: rows that propose thresholds (and that routers were fitted on), best with smoothed gains
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
        """The proposed thresholds (K - 1,) in the order of their testing, the surest first; (K,) with abstaining."""
        if goal.most_abstained is not None:
            return propose_abstaining(goal, self.search, len(self.test))
        return [proposal.thresholds for proposal in goal.order(self.proposed, self.search, len(self.test))]

    def certify(self, goal: Goal, delta: float) -> Certified | None:
        """The last thresholds of the sequence that passed, or ``None`` if the goal cannot be certified."""
        return certify(goal, self.test, self.sequence(goal), delta, self.search)

    def tested(self, goal: Goal, thresholds: np.ndarray) -> RoutingProblem:
        """The problem that the tests of a goal see at some thresholds (K - 1,)."""
        return at_constant_costs(goal, self.test, thresholds, self.search)
