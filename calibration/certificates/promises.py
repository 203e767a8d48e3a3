"""Promises about a cascade, and tests of whether held-out rows bear them out.

Each promise is a statement about means over the rows that will come. To certify it, the null hypothesis is that it is
broken; a small p-value on rows that had no part in the choice of the thresholds is evidence that it holds. To watch
over it later, the null hypothesis is that it is kept: the same test, mirrored.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["AbstainPromise", "CostPromise", "DropPromise", "GainPromise", "Promise"]

NUISANCE_SHARE = 0.05


class Promise(Protocol):
    """A statement about the mean of one outcome a row."""

    @property
    def test(self) -> str:
        """Name of the test."""

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


@dataclass(frozen=True)
class AbstainPromise:
    """At most the share ``most`` of the rows is not answered: exact binomial tail.

    Attributes:
        most: in [0, 1].
    """

    most: float
    test: str = "exact binomial"

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


@dataclass(frozen=True)
class DropPromise:
    """The mean gain is at most ``most`` below the last stage's on the same rows.

    A row's outcome D is the last stage's gain less the cascade's: -1, 0 or 1. The null hypothesis E D >= most has a
    nuisance parameter, the share q = P(D != 0). With T the sum of the outcomes, t its observed value and T' the sum of
    n - 1 of them, d/dq P(T <= t) = n / 2 (P(T' = t + 1) - P(T' = t)) at a fixed mean. For q <= 1/2, T' is a shifted sum
    of independent Bernoulli variables, so its distribution is unimodal with a mode less than 1 from its mean (Darroch,
    "On the distribution of the number of successes in independent trials", Ann. Math. Statist. 35, 1964): below it
    P(T <= t) rises with q, and the p-value at an upper confidence bound of q, plus that bound's risk, is valid (Berger
    and Boos, "P values maximized over a confidence set for the nuisance parameter", JASA 89, 1994). Where q may exceed
    1/2, the p-value is Hoeffding's bound, which holds for every q ("Probability inequalities for sums of bounded random
    variables", JASA 58, 1963, theorem 1).

    Attributes:
        most: in [0, 1]; in [-1, 1] for the mirrored test, to which all of this applies as well.
        delta: level that the test is tuned to; the p-value is valid at every level.
    """

    most: float
    delta: float = 0.05
    test: str = "exact paired trinomial"

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(n,) in {-1, 0, 1}."""
        own = np.take_along_axis(problem.gain, stage[:, None], axis=1)[:, 0]
        return np.asarray(problem.gain[:, -1] - own)

    def margin(self, mean: float) -> float:
        """The mean drop below the most."""
        return self.most - mean

    @property
    def nuisance_risk(self) -> float:
        """The part of delta that is spent on the bound of q."""
        return NUISANCE_SHARE * self.delta

    def p_value(self, outcome: np.ndarray) -> float:
        """The largest P(T <= t) over the hypotheses that are not ruled out, plus the risk of ruling one out."""
        from scipy.special import bdtr, betaincinv, gammaln, xlog1py, xlogy

        n, total, changed = len(outcome), int(outcome.sum()), int(np.count_nonzero(outcome))
        share = float(betaincinv(changed + 1, n - changed, 1 - self.nuisance_risk)) if changed < n else 1.0
        share = max(share, abs(self.most))
        if share > 0.5:
            return min(1.0, self._bound(total / n, n) + self.nuisance_risk)
        if share == 0 or total > (n - 1) * self.most - 2:
            return 1.0
        # Counts far from their mean together weigh less than the rounding, which is added as well.
        half = 10 * np.sqrt(n * share * (1 - share)) + 10
        counts = np.arange(max(0, int(n * share - half)), min(n, int(n * share + half)) + 1)
        ways = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
        weight = np.exp(ways + xlogy(counts, share) + xlog1py(n - counts, -share))
        # Of so many changed rows, at most this many for the worse; a negative number of them is impossible.
        worse = np.floor((counts + total) / 2)
        below = np.where(worse < 0, 0.0, bdtr(np.clip(worse, 0, counts), counts, (1 + self.most / share) / 2))
        rest = max(0.0, 1.0 - float(weight.sum()))
        return min(1.0, float((weight * below).sum()) + rest + self.nuisance_risk)

    def _bound(self, mean: float, n: int) -> float:
        """Of the probability that the mean of n outcomes is no larger than this one."""
        from scipy.special import rel_entr

        seen, least = (1 + mean) / 2, (1 + self.most) / 2
        return float(np.exp(-n * (rel_entr(seen, least) + rel_entr(1 - seen, 1 - least)))) if seen < least else 1.0

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """E D <= most is E(-D) >= -most."""
        return replace(self, most=-self.most).p_value(-outcome)


@dataclass(frozen=True)
class CostPromise:
    """The mean cost of a row is at most ``most``.

    A betting test: the wealth of a gambler who bets against the null hypothesis "the mean is above" with a stake that
    depends on earlier rows only is a supermartingale under it, so it exceeds 1 / delta with probability at most delta
    (Ville). Stakes as in Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86,
    2024, section 4.2, https://arxiv.org/abs/2010.09686

    Attributes:
        most: at least 0.
        highest: bound of the cost of a row.
        delta: level that the stakes are tuned to; the p-value is valid at every level.
    """

    most: float
    highest: float
    delta: float = 0.05
    test: str = "betting"

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(n,) cost of each row."""
        return np.asarray(np.take_along_axis(problem.cost, stage[:, None], axis=1)[:, 0])

    def margin(self, mean: float) -> float:
        """The mean cost below the most."""
        return self.most - mean

    def p_value(self, outcome: np.ndarray) -> float:
        """1 / the highest wealth on the way."""
        if self.most >= self.highest:
            return 0.0
        scaled, bound = outcome / self.highest, self.most / self.highest
        count = np.arange(1, len(scaled) + 1)
        mean = (0.5 + np.cumsum(scaled)) / (count + 1)
        variance = (0.25 + np.cumsum((scaled - mean) ** 2)) / (count + 1)
        before = np.concatenate([[0.25], variance[:-1]])
        stake = np.minimum(np.sqrt(2 * np.log(1 / self.delta) / (before * len(scaled))), 0.75 / (1 - bound))
        wealth = np.cumsum(np.log1p(stake * (bound - scaled)))
        return float(min(1.0, np.exp(-wealth.max(initial=0.0))))

    def p_value_kept(self, outcome: np.ndarray) -> float:
        """A mean cost of at most ``most`` is one of at least ``highest - most`` below the highest."""
        return replace(self, most=self.highest - self.most).p_value(self.highest - outcome)
