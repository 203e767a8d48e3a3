"""Guarantees of a cascade, and tests of whether held-out rows show that they are satisfied.

Each guarantee is a statement about a mean on future data. To certify it, the null hypothesis is that it is violated: a
small p-value on rows that had no part in the choice of the thresholds is evidence that it is satisfied. To check it
later, the null hypothesis is that it is satisfied: the same test, mirrored.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from cascade.calibration.certificates.paired_trinomial import trinomial_limit, trinomial_p_value
from cascade.calibration.detection import Detection
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.routing_problem import RoutingProblem

__all__ = [
    "AbstentionGuarantee",
    "DropGuarantee",
    "GainGuarantee",
    "MeanGuarantee",
    "PrecisionGuarantee",
    "RecallGuarantee",
]


class MeanGuarantee(Protocol):
    """A statement about the mean of one outcome per row."""

    @property
    def test(self) -> str:
        """Name of the test."""

    @property
    def extremes(self) -> tuple[float, ...]:
        """Outcomes that only rare rows may have."""

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """The outcome of each row.

        Args:
            problem: n rows.
            stage: (n,) int, the stage that answers each row.

        Returns:
            (n,) float; fewer where the guarantee covers the answered rows only.
        """

    def margin(self, mean: float) -> float:
        """Distance of a mean outcome from the limit; at least 0 if the guarantee is satisfied."""

    def p_value(self, outcome: np.ndarray) -> float:
        """Of the hypothesis that the guarantee is violated; if it is, P(p_value <= delta) <= delta at every n."""

    def p_value_satisfied(self, outcome: np.ndarray) -> float:
        """Of the hypothesis that the guarantee is satisfied; valid in the same sense."""

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """The mean outcomes that neither of the two tests rejects, whatever the guaranteed one is.

        Args:
            outcome: (n,) of rows that had no part in any choice.
            tail: probability that the mean is below the interval, and that it is above, each in (0, 0.5).

        Returns:
            Both ends; the upper end of a mean cost is inf without a bound of the cost per row.
        """


@dataclass(frozen=True)
class GainGuarantee:
    """The mean gain (accuracy, or agreement with the last stage) of the answered rows is at least ``least``.

    Exact binomial tail: Clopper and Pearson, Biometrika 26, 1934. Where a cascade may abstain, the number of
    answered rows is random. Given which rows they are, their gains are independent draws with the guaranteed mean, so
    the tail is valid conditional on the number, and therefore unconditionally.

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

    def p_value_satisfied(self, outcome: np.ndarray) -> float:
        """P(at most as many gains) if the mean gain were ``least``."""
        from scipy.special import bdtr

        return float(bdtr(int(outcome.sum()), len(outcome), self.least))

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return exact_interval(int(outcome.sum()), len(outcome), tail)


@dataclass(frozen=True)
class RecallGuarantee(GainGuarantee):
    """At least the share ``least`` of the positive rows is answered as positive: exact binomial tail.

    Given which rows are positive, whether each of them is detected is an independent draw with the guaranteed mean, so
    the tail is valid conditional on their number. It stays valid if the rows were split by their labels, because the
    split then depends on the labels and on chance alone.
    """

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(m,) 1 where the answer is positive, else 0, of the positive rows."""
        return np.asarray(_answers_positive(problem, stage)[_detection(problem).is_positive], dtype=np.float64)


@dataclass(frozen=True)
class PrecisionGuarantee(GainGuarantee):
    """At least the share ``least`` of the rows that are answered as positive is positive: exact binomial tail.

    Their number is random. Given which rows they are, their labels are independent draws with the guaranteed mean, so
    the tail is valid conditional on the number, and therefore unconditionally.
    """

    def outcome(self, problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
        """(m,) 1 where the label is positive, else 0, of the rows answered as positive."""
        return np.asarray(_detection(problem).is_positive[_answers_positive(problem, stage)], dtype=np.float64)


def _detection(problem: RoutingProblem) -> Detection:
    if problem.detection is None:
        raise ValueError("recall and precision need a problem with a positive class")
    return problem.detection


def _answers_positive(problem: RoutingProblem, stage: np.ndarray) -> np.ndarray:
    return np.asarray(np.take_along_axis(_detection(problem).answered, stage[:, None], axis=1)[:, 0])


@dataclass(frozen=True)
class AbstentionGuarantee:
    """At most the share ``most`` of the rows has no answer: exact binomial tail.

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
        """(n,) 1 where there is no answer, else 0."""
        return np.asarray(~problem.answered(stage), dtype=np.float64)

    def margin(self, mean: float) -> float:
        """The share below the most."""
        return self.most - mean

    def p_value(self, outcome: np.ndarray) -> float:
        """P(at most as many without an answer) if their share were ``most``."""
        from scipy.special import bdtr

        return float(bdtr(int(outcome.sum()), len(outcome), self.most))

    def p_value_satisfied(self, outcome: np.ndarray) -> float:
        """P(at least as many without an answer) if their share were ``most``."""
        from scipy.special import bdtrc

        left = int(outcome.sum())
        return 1.0 if left == 0 else float(bdtrc(left - 1, len(outcome), self.most))

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Clopper and Pearson's."""
        return exact_interval(int(outcome.sum()), len(outcome), tail)


@dataclass(frozen=True)
class DropGuarantee:
    """The mean gain is at most ``most`` below the last stage's on the same rows.

    A row's outcome is the last stage's gain less the cascade's: -1, 0 or 1. The test is exact, see
    :mod:`~cascade.calibration.certificates.paired_trinomial`.

    Attributes:
        most: in [0, 1]; in [-1, 1] for the mirrored test.
        delta: level at which the test has the most power; the p-value is valid at every level.
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
        """Of the hypothesis that the mean drop is at least ``most``."""
        worse, better = int(np.count_nonzero(outcome > 0)), int(np.count_nonzero(outcome < 0))
        return trinomial_p_value(worse, better, len(outcome), self.most, self.delta)

    def p_value_satisfied(self, outcome: np.ndarray) -> float:
        """A mean drop of at most ``most`` is a mean of at least ``-most`` of the outcomes with the other sign."""
        return replace(self, most=-self.most).p_value(-outcome)

    def interval(self, outcome: np.ndarray, tail: float) -> tuple[float, float]:
        """Both ends are limits of the exact test, the lower one with the two outcomes exchanged."""
        worse, better = int(np.count_nonzero(outcome > 0)), int(np.count_nonzero(outcome < 0))
        n = len(outcome)
        return -trinomial_limit(better, worse, n, tail), trinomial_limit(worse, better, n, tail)
