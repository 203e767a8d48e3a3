"""A confidence sequence: an interval for a rate that holds at all times at once."""

import math

__all__ = ["rate_interval"]

PRIOR = 0.5


def rate_interval(successes: int, trials: int, delta: float) -> tuple[float, float]:
    """The rates whose capital process has not reached 1 / delta.

    For every rate p a capital process bets on each outcome at odds that are fair under p. Its bets depend on earlier
    outcomes only: they take the rate to be (successes + 1/2) / (trials + 1) of the outcomes so far. The capital is

        C(p) = B(s + 1/2, n - s + 1/2) / (B(1/2, 1/2) p^s (1 - p)^(n - s)).

    If p is the true rate, it is a martingale and ever exceeds 1 / delta with probability at most delta (Ville). So the
    interval {p: C(p) < 1 / delta} contains the true rate at all times at once with probability at least 1 - delta, and
    may be read after every outcome. Betting: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting", JRSS B 86, 2024, section 4, https://arxiv.org/abs/2010.09686; these bets: Robbins, "Statistical methods
    related to the law of the iterated logarithm", Ann. Math. Statist. 41, 1970.

    The interval depends on counts only, so the counts of several independent observers may be added.

    Args:
        successes: s, in [0, n].
        trials: n >= 0 outcomes, each a success with the same probability, whatever the earlier ones were.
        delta: probability that the rate is ever outside, in (0, 1).

    Returns:
        Lowest and highest rate; (0, 1) without outcomes.
    """
    from scipy.optimize import brentq
    from scipy.special import betaln, xlog1py, xlogy

    failures = trials - successes
    gained = float(betaln(successes + PRIOR, failures + PRIOR) - betaln(PRIOR, PRIOR)) + math.log(delta)

    def excess(rate: float) -> float:
        return gained - float(xlogy(successes, rate) + xlog1py(failures, -rate))

    # The capital is lowest at the observed mean, and rises on both sides of it.
    mean = successes / trials if trials else 0.5
    low = float(brentq(excess, 0.0, mean)) if successes and math.isinf(excess(0.0)) else 0.0
    high = float(brentq(excess, mean, 1.0)) if failures and math.isinf(excess(1.0)) else 1.0
    return low, high
