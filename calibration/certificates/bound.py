"""The tightest target for which given thresholds pass the test."""

from collections.abc import Callable

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["certified_bound"]

BISECTIONS = 40
COST_STEPS = 200


def certified_bound(goal: Goal, problem: RoutingProblem, stage: np.ndarray, delta: float) -> float:
    """The hardest value of the target that passes the test: a one-sided bound of its quantity at level 1 - delta.

    By bisection, since p-values of counts are monotone in the target. That of a betting test is not quite monotone,
    because its bet fractions depend on the target: costs are tested from the easiest down, in steps that do not depend
    on the rows, up to the first that fails (fixed-sequence testing).

    Args:
        goal: gives the quantity; its own value is not used.
        problem: the testing rows.
        stage: (n,) int, the stage that answers each of them.
        delta: level of the test.
    """

    def passes(value: float) -> bool:
        guarantee = Goal(goal.name, value).guarantee(problem, delta)
        return guarantee.p_value(guarantee.outcome(problem, stage)) <= delta

    easy = goal.easiest(problem)
    if goal.name == "max_cost":
        return _lowest_cost(passes, goal.value if passes(goal.value) else easy)
    hard = 0.0 if goal.name.startswith("max_") else 1.0
    for _ in range(BISECTIONS):
        middle = (easy + hard) / 2
        easy, hard = (middle, hard) if passes(middle) else (easy, middle)
    return easy


def _lowest_cost(passes: Callable[[float], bool], easy: float) -> float:
    for value in map(float, np.linspace(easy, 0.0, COST_STEPS + 1)[1:]):
        if not passes(value):
            break
        easy = value
    return easy
