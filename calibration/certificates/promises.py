"""Promises about a cascade, and tests of whether held-out rows bear them out.

Each promise is a statement about means over the rows that will come. To certify it, the null hypothesis is that it is
broken; a small p-value on rows that had no part in the choice of the thresholds is evidence that it holds. To watch
over it later, the null hypothesis is that it is kept: the same test, mirrored.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from cascade.calibration.certificates.paired_trinomial import trinomial_limit, trinomial_p_value
from cascade.calibration.certificates.stakes import highest_capital
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["AbstainPromise", "CostPromise", "DropPromise", "GainPromise", "Promise"]


COST_STEP = 0.995
"""Ratio of neighbouring mean costs that an interval tests."""


class Promise(Protocol):
    """A statement about the mean of one outcome a row."""

    @property
    def test(self) -> str:
        """Name of the test."""

    @property
    def extremes(self) -> tuple[float, ...]:
        """Outcomes that rare rows may have."""

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """The outcome of each row.

        Args:
            problem: n rows.
            stage: (n,) int, the stage that answers each row.

        Returns:
            (n,) float; fewer where the promise is about the answered rows only.
        """

    def margin(self, mean: float) -> float:
        """How far a mean outcome is from where the promise breaks; positive if it is kept."""

    def p_value(self, outcome: np.ndarray) -> float:
        """Of the hypothesis that the promise is broken; valid at every n: P(p_value <= delta) <= delta if it is."""

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """Of the hypothesis that the promise is kept; as valid."""

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """The mean outcomes that neither of the two tests rejects, whatever the promised one is.

        Args:
            outcome: (n,) of rows that chose nothing.
            tail: risk that the mean is below the interval, and that it is above, in (0, 0.5).

        Returns:
            Both ends; the upper end of a mean cost is inf where no bound of a row's cost is known.
        """


@dataclass(frozen=True)
class GainPromise:
    """The mean gain (accuracy, or agreement with the last stage) of the answered rows is at least ``least``.

    Exact binomial tail: Clopper and Pearson, Biometrika 26, 1934. Where a cascade may abstain, how many of n rows it
    answers is random; but given which they are, their gains are independent draws with the mean that is promised, so
    the tail is valid given the number, whatever it is, and therefore altogether.

    Attributes:
        least: in [0, 1].
    """

    least: float
    test: str = "exact binomial"

    @property
    def extremes(self) -> tuple[float, ...]:
        """No gain, and a gain."""
        return (0.0, 1.0)

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(m,) 1 for a gain, 0 for none, of the answered rows."""
        return np.asarray(np.take_along_axis(problem.gain, stage[:, None], axis=1)[problem.answered(stage), 0])

    def margin(self, mean: float) -> float:
        """The mean gain above the least."""
        return mean - self.least

    def p_value(self, outcome: np.ndarray) -> float:
        """P(at least as many gains) if the mean gain were ``least``."""
        from scipy.special import bdtrc

        gained = int(outcome.sum())
        return 1.0 if gained == 0 else float(bdtrc(gained - 1, len(outcome), self.least))

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """P(at most as many gains) if the mean gain were ``least``."""
        from scipy.special import bdtr

        return float(bdtr(int(outcome.sum()), len(outcome), self.least))

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return exact_interval(int(outcome.sum()), len(outcome), tail)


@dataclass(frozen=True)
class AbstainPromise:
    """At most the share ``most`` of the rows is not answered: exact binomial tail.

    Attributes:
        most: in [0, 1].
    """

    most: float
    test: str = "exact binomial"

    @property
    def extremes(self) -> tuple[float, ...]:
        """An answer, and none."""
        return (0.0, 1.0)

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(n,) 1 where nobody answers, else 0."""
        return np.asarray(~problem.answered(stage), dtype=np.float64)

    def margin(self, mean: float) -> float:
        """The share below the most."""
        return self.most - mean

    def p_value(self, outcome: np.ndarray) -> float:
        """P(at most as many without an answer) if their share were ``most``."""
        from scipy.special import bdtr

        return float(bdtr(int(outcome.sum()), len(outcome), self.most))

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """P(at least as many without an answer) if their share were ``most``."""
        from scipy.special import bdtrc

        left = int(outcome.sum())
        return 1.0 if left == 0 else float(bdtrc(left - 1, len(outcome), self.most))

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return exact_interval(int(outcome.sum()), len(outcome), tail)


@dataclass(frozen=True)
class DropPromise:
    """The mean gain is at most ``most`` below the last stage's on the same rows.

    A row's outcome is the last stage's gain less the cascade's: -1, 0 or 1. The test is exact, see
    :mod:`~cascade.calibration.certificates.paired_trinomial`.

    Attributes:
        most: in [0, 1]; in [-1, 1] for the mirrored test, to which all of this applies as well.
        delta: level that the test is tuned to; the p-value is valid at every level.
    """

    most: float
    delta: float = 0.05
    test: str = "exact paired trinomial"

    @property
    def extremes(self) -> tuple[float, ...]:
        """Better, and worse."""
        return (-1.0, 1.0)

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(n,) in {-1, 0, 1}."""
        own = np.take_along_axis(problem.gain, stage[:, None], axis=1)[:, 0]
        return np.asarray(problem.gain[:, -1] - own)

    def margin(self, mean: float) -> float:
        """The mean drop below the most."""
        return self.most - mean

    def p_value(self, outcome: np.ndarray) -> float:
        """Of the hypothesis that the mean drop is ``most`` or more."""
        worse, better = int(np.count_nonzero(outcome > 0)), int(np.count_nonzero(outcome < 0))
        return trinomial_p_value(worse, better, len(outcome), self.most, self.delta)

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """A mean drop of at most ``most`` is a mean of at least ``-most`` of the outcomes with the other sign."""
        return replace(self, most=-self.most).p_value(-outcome)

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Both ends are limits of the exact test, the lower one with the two outcomes exchanged."""
        worse, better = int(np.count_nonzero(outcome > 0)), int(np.count_nonzero(outcome < 0))
        n = len(outcome)
        return -trinomial_limit(better, worse, n, tail), trinomial_limit(worse, better, n, tail)


@dataclass(frozen=True)
class CostPromise:
    """The mean cost of a row is at most ``most``.

    A betting test: a capital process that bets against the null hypothesis "the mean is above" with stakes that depend
    on earlier rows only is a supermartingale under it, so it ever exceeds 1 / delta with probability at most delta
    (Ville; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024,
    https://arxiv.org/abs/2010.09686). Stakes as in :mod:`~cascade.calibration.certificates.stakes`.

    Attributes:
        most: at least 0.
        highest: bound of the cost of any row; inf where it is not known, and nothing can be certified.
        delta: level that the stakes aim at; the p-value is valid at every level, and seldom far below this one.
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
        """1 / the highest capital on the way."""
        if self.most >= self.highest:
            return 0.0
        if self.highest == np.inf:
            return 1.0
        return 1 / highest_capital(outcome / self.highest, self.most / self.highest, self.delta)

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """A mean cost of at most ``most`` is one of at least ``highest - most`` below the highest.

        Costs above the highest only add to the capital, so any number serves where the highest is not known.
        """
        highest = self.highest if self.highest < np.inf else 2 * self.most
        return replace(self, most=highest - self.most, highest=highest).p_value(highest - outcome)

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Fixed-sequence tests from either side, up to the first mean cost that is not rejected.

        Each sequence begins with the target, if that is rejected; else at the highest cost of any row, or at the lowest
        cost of these.
        """
        aimed = replace(self, delta=tail)

        def is_below(cost: float) -> bool:
            return replace(aimed, most=cost).p_value(outcome) <= tail

        def is_above(cost: float) -> bool:
            return replace(aimed, most=cost).p_value_kept(outcome) <= tail

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
    """The last value that is rejected, on steps from one that is; the end, before which they stop, is not."""
    while (start * step - end) * (step - 1) < 0 and rejects(start * step):
        start *= step
    return start
