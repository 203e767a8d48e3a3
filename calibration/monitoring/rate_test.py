"""A sequential test of whether a rate stays in an interval."""

import numpy as np

__all__ = ["RateTest"]

# Alternatives that are bet on, as distances from the end of the interval in log odds: 0.1 is a very small change, 3.2
# one from 2 % to a third.
SHIFTS = 0.1 * 2.0 ** np.arange(6)
NEAREST_TO_CERTAIN = 1e-9
MOST_LOG_E = 700.0


class RateTest:
    """A capital process against the hypothesis that each outcome is a success with a probability in [low, high].

    A bet on the alternative rate q < low multiplies the capital by q / low at a success and by (1 - q) / (1 - low) at a
    failure. Its mean factor is 1 if the rate is ``low``, and below 1 if it is higher; likewise for rates above
    ``high``. The capital on several alternatives is a supermartingale, so if it begins with 1, it ever reaches
    1 / delta with probability at most delta (Ville's inequality; Waudby-Smith and Ramdas, "Estimating means of bounded
    random variables by betting", JRSS B 86, 2024, https://arxiv.org/abs/2010.09686). The outcomes need not be
    independent, and the rate may move within the interval.

    A process that bets all its capital from the start loses nearly all of it while the rate is inside, and then takes
    as long to detect a change as the rate was inside before. So the capital of 1 is paid in gradually: after j updates
    1 / (1 + log(1 + j)) of it is not yet paid in. What is paid in shortly before a change is still there; the price is
    a delay that grows with the logarithm of j. (A mixture over the times of a change, as in Shiryaev-Roberts tests, but
    with weights that sum to 1, so the probability of a false alarm is bounded over all times, not only its rate.
    Compare Shin, Ramdas and Rinaldo, "E-detectors", New England J. Statist. Data Sci. 2, 2024,
    https://arxiv.org/abs/2203.03532.)

    Args:
        low: in [0, 1]; at 0 no rate is too low.
        high: in [low, 1]; at 1 no rate is too high.
        delta: probability of a false alarm at any time, in (0, 1).

    Raises:
        ValueError: an argument is out of its range.

    Attributes:
        successes: so far.
        trials: so far.
        alarm_trials: trials when the alarm was raised; it stays raised. ``None`` before that.
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
        # This can only widen the null hypothesis; at an end of 0 or 1 no bet would be possible.
        null, alternative = _alternatives(min(low, 1 - NEAREST_TO_CERTAIN), max(high, NEAREST_TO_CERTAIN))
        self._log_success = np.log(alternative / null)
        self._log_failure = np.log((1 - alternative) / (1 - null))
        self._log_capital = np.full(len(null), -np.inf)
        self._updates = 0

    @property
    def alarm(self) -> bool:
        """Whether the rate was found outside the interval, now or earlier."""
        return self.alarm_trials is not None

    @property
    def e_value(self) -> float:
        """The capital, at least 0: evidence that the rate is or was outside the interval."""
        return float(np.exp(min(self._log_total(), MOST_LOG_E)))

    def update(self, successes: int, trials: int) -> None:
        """Adds outcomes, whose order does not matter.

        Args:
            successes: in [0, trials].
            trials: at least 0; 0 changes nothing.
        """
        if not trials:
            return
        self.successes += successes
        self.trials += trials
        if len(self._log_capital):
            paid = _unpaid(self._updates) - _unpaid(self._updates + 1)
            self._updates += 1
            capital = np.logaddexp(self._log_capital, np.log(paid / len(self._log_capital)))
            self._log_capital = capital + successes * self._log_success + (trials - successes) * self._log_failure
            if self.alarm_trials is None and self._log_total() >= -np.log(self.delta):
                self.alarm_trials = self.trials

    def _log_total(self) -> float:
        return float(np.logaddexp.reduce(self._log_capital, initial=np.log(_unpaid(self._updates))))


def _unpaid(updates: int) -> float:
    return float(1 / (1 + np.log1p(updates)))


def _alternatives(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(G,) ends of the interval, and (G,) rates outside that are bet on."""
    ends = [(low, -1)] if low > 0 else []
    ends += [(high, 1)] if high < 1 else []
    null = np.repeat([end for end, _ in ends], len(SHIFTS))
    log_odds = np.log(null / (1 - null)) + np.concatenate([sign * SHIFTS for _, sign in ends] or [np.zeros(0)])
    return null, 1 / (1 + np.exp(-log_odds))
