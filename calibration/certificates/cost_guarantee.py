"""The guarantee of a mean cost, tested by betting."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.certificates.betting import highest_capital
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["CostGuarantee"]

COST_STEP = 0.995
"""Ratio of neighbouring mean costs that an interval tests."""


@dataclass(frozen=True)
class CostGuarantee:
    """The mean cost per row is at most ``most``.

    A betting test: a capital process bets against the null hypothesis that the mean is above ``most``. Its bet
    fractions depend on earlier rows only, so under the null hypothesis it is a supermartingale, and ever exceeds
    1 / delta with probability at most delta (Ville; Waudby-Smith and Ramdas, "Estimating means of bounded random
    variables by betting", JRSS B 86, 2024, https://arxiv.org/abs/2010.09686). The bet fractions are those of
    :mod:`~cascade.calibration.certificates.betting`.

    Attributes:
        most: at least 0.
        highest: upper bound of the cost per row; inf without one, in which case nothing can be certified.
        delta: level that the bet fractions aim at; the p-value is valid at every level, and seldom far below this one.
    """

    most: float
    highest: float
    delta: float = 0.05
    test: str = "betting"

    @property
    def extremes(self) -> tuple[float, ...]:
        """The highest cost."""
        return (self.highest,)

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(n,) cost of each row."""
        return np.asarray(np.take_along_axis(problem.cost, stage[:, None], axis=1)[:, 0])

    def margin(self, mean: float) -> float:
        """The mean cost below the most."""
        return self.most - mean

    def p_value(self, outcome: np.ndarray) -> float:
        """1 / the highest capital of the process."""
        if self.most >= self.highest:
            return 0.0
        if self.highest == np.inf:
            return 1.0
        return 1 / highest_capital(outcome / self.highest, self.most / self.highest, self.delta)

    def p_value_satisfied(self, outcome: np.ndarray) -> float:
        """A mean cost of at most ``most`` is one of at least ``highest - most`` below the highest.

        Costs above the highest only add to the capital, so without a bound any number is valid.
        """
        highest = self.highest if self.highest < np.inf else 2 * self.most
        return replace(self, most=highest - self.most, highest=highest).p_value(highest - outcome)

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Fixed-sequence tests from either side, up to the first mean cost that is not rejected.

        Each sequence begins with the target, if that is rejected; else at the highest cost per row, or at the lowest
        cost of these rows.
        """
        aimed = replace(self, delta=tail)

        def is_below(cost: float) -> bool:
            return replace(aimed, most=cost).p_value(outcome) <= tail

        def is_above(cost: float) -> bool:
            return replace(aimed, most=cost).p_value_satisfied(outcome) <= tail

        low, high = 0.0, self.highest
        if is_below(self.most):
            high = _last_rejected(is_below, self.most, 0.0, COST_STEP)
        elif high < np.inf:
            high = _last_rejected(is_below, high, self.most, COST_STEP)
        if is_above(self.most):
            low = _last_rejected(is_above, self.most, high, 1 / COST_STEP)
        elif 0 < outcome.min() < self.most and is_above(float(outcome.min())):
            low = _last_rejected(is_above, float(outcome.min()), self.most, 1 / COST_STEP)
        return low, high


def _last_rejected(rejects: Callable[[float], bool], start: float, end: float, step: float) -> float:
    """The last rejected value, in steps from one that is rejected; the steps stop before the end, which is not."""
    while (start * step - end) * (step - 1) < 0 and rejects(start * step):
        start *= step
    return start
