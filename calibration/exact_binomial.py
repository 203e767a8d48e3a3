"""The exact binomial interval."""

__all__ = ["exact_interval"]


def exact_interval(successes: int, trials: int, tail: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson, Biometrika 26, 1934.

    Args:
        successes: in [0, trials].
        trials: at least 0; without trials the interval is [0, 1].
        tail: probability that the rate is below the interval, and that it is above, each in (0, 0.5].
    """
    from scipy.special import betainccinv, betaincinv

    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betainccinv(successes + 1, trials - successes, tail))
    return low, high
