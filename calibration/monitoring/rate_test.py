"""A test, without an end, of whether a rate stays where it was promised to be."""

import numpy as np

__all__ = ["RateTest"]

# Alternatives that are bet on, as distances from the end of the interval in log odds: 0.1 is hardly a change, 3.2 is
# one of 2 % to a third.
SHIFTS = 0.1 * 2.0 ** np.arange(6)
NEAREST_TO_CERTAIN = 1e-9
MOST_LOG_E = 700.0


class RateTest:
    """Bets against "each outcome succeeds with a probability in [low, high], whatever came before".

    A gambler who bets on the alternative rate q < low multiplies his stake by q / low at a success and by
    (1 - q) / (1 - low) at a failure. That is a fair game if the rate is ``low``, and a losing one if it is above; above
    ``high`` likewise. His wealth on several alternatives at once is a supermartingale, so if it begins with 1, it
    reaches 1 / delta at any time at all with probability at most delta (Ville's inequality; Waudby-Smith and Ramdas,
    "Estimating means of bounded random variables by betting", JRSS B 86, 2024, https://arxiv.org/abs/2010.09686). The
    outcomes need not be independent, and the rate may move within the interval.

    Whoever stakes all at the beginning loses nearly all of it while nothing is wrong, and then takes as long to notice
    a change as he was right before. So the 1 is paid in little by little: what is not yet paid in after j updates is
    1 / (1 + log(1 + j)). What is paid in shortly before a change is still there, at the price of a delay that grows
    with the logarithm of j. (A mixture over the times of a change, as in Shiryaev-Roberts tests, but with weights that
    sum to 1: so the probability of a false alarm is bounded over all times, not only its rate. Compare Shin, Ramdas and
    Rinaldo, "E-detectors", New England J. Statist. Data Sci. 2, 2024, https://arxiv.org/abs/2203.03532.)

    Args:
        low: in [0, 1]; at 0 no rate is too low.
        high: in [low, 1]; at 1 no rate is too high.
        delta: risk of a false alarm, in (0, 1), over all times together.

    Raises:
        ValueError: an argument is out of its range.

    Attributes:
        successes: so far.
        trials: so far.
        alarm_trials: trials at which the alarm was raised; it stays raised. ``None`` if it was not.
    """

    def __init__(self, low: float, high: float, delta: float) -> None:
        if not 0 <= low <= high <= 1:
            raise ValueError(f"low and high must be in [0, 1], in this order; got {low!r} and {high!r}")
        if not 0 < delta < 1:
            raise ValueError(f"delta must be in (0, 1); got {delta!r}")
        self.low, self.high, self.delta = low, high, delta
        self.successes = 0
        self.trials = 0
        self.alarm_trials: int | None = None
        # The null hypothesis is only ever made larger: an end at 0 or 1 would leave nothing to bet at.
        null, alternative = _alternatives(min(low, 1 - NEAREST_TO_CERTAIN), max(high, NEAREST_TO_CERTAIN))
        self._log_success = np.log(alternative / null)
        self._log_failure = np.log((1 - alternative) / (1 - null))
        self._log_stakes = np.full(len(null), -np.inf)
        self._updates = 0

    @property
    def alarm(self) -> bool:
        """Whether the rate was found outside, now or earlier."""
        return self.alarm_trials is not None

    @property
    def e_value(self) -> float:
        """The gambler's wealth, at least 0: evidence that the rate is or was outside."""
        return float(np.exp(min(self._log_wealth(), MOST_LOG_E)))

    def update(self, successes: int, trials: int) -> None:
        """Takes in further outcomes, whose order does not matter.

        Args:
            successes: of them, in [0, trials].
            trials: at least 0; nothing happens if there are none.
        """
        if not trials:
            return
        self.successes += successes
        self.trials += trials
        if len(self._log_stakes):
            paid = _unpaid(self._updates) - _unpaid(self._updates + 1)
            self._updates += 1
            staked = np.logaddexp(self._log_stakes, np.log(paid / len(self._log_stakes)))
            self._log_stakes = staked + successes * self._log_success + (trials - successes) * self._log_failure
            if self.alarm_trials is None and self._log_wealth() >= -np.log(self.delta):
                self.alarm_trials = self.trials

    def _log_wealth(self) -> float:
        return float(np.logaddexp.reduce(self._log_stakes, initial=np.log(_unpaid(self._updates))))


def _unpaid(updates: int) -> float:
    return float(1 / (1 + np.log1p(updates)))


def _alternatives(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(G,) ends of the interval, and (G,) rates outside that are bet on."""
    ends = [(low, -1)] if low > 0 else []
    ends += [(high, 1)] if high < 1 else []
    null = np.repeat([end for end, _ in ends], len(SHIFTS))
    log_odds = np.log(null / (1 - null)) + np.concatenate([sign * SHIFTS for _, sign in ends] or [np.zeros(0)])
    return null, 1 / (1 + np.exp(-log_odds))
