"""What a test still bears out: the tightest target that given thresholds pass."""

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["certified_bound"]

BISECTIONS = 40


def certified_bound(goal: Goal, problem: RoutingProblem, stage: np.ndarray, delta: float) -> float:
    """A one-sided bound of the promised quantity at level 1 - delta: the test, turned round.

    Args:
        goal: tells the quantity; its value and budget are not looked at.
        problem: the rows that test.
        stage: (n,) int, the stage that answers each of them.
        delta: level of the test.

    Returns:
        The hardest value of the target that passes, by bisection: the p-value is monotone in it.
    """
    easy = goal.easiest(problem)
    hard = 0.0 if goal.name.startswith("max_") else 1.0
    for _ in range(BISECTIONS):
        middle = (easy + hard) / 2
        promise = Goal(goal.name, middle).promise(problem, delta)
        if promise.p_value(promise.outcome(problem, stage)) <= delta:
            easy = middle
        else:
            hard = middle
    return easy
