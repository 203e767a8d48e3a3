"""The monitored rates of one policy in force."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.monitoring.confidence_sequence import rate_interval
from cascade.calibration.monitoring.rate_test import RateTest
from cascade.calibration.policies.policy import Policy

__all__ = ["Monitor", "WatchedRate", "estimate"]


@dataclass(frozen=True, eq=False)
class WatchedRate:
    """A rate that is compared with an interval.

    Attributes:
        name: "agreement", "forward_rate" or "repeat_rate".
        stage: name of its stage; ``None`` for the whole cascade.
        source: of the interval: "operator", "guarantee" or "calibration".
        test: of the rate.
    """

    name: str
    stage: str | None
    source: str
    test: RateTest

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        test = self.test
        return {
            "name": self.name,
            "stage": self.stage,
            "source": self.source,
            "rows": test.trials,
            "rate": test.successes / test.trials if test.trials else None,
            "low": test.low,
            "high": test.high,
            "e_value": test.e_value,
            "alarm_at": 1 / test.delta,
            "alarm": test.alarm,
            "alarm_rows": test.alarm_trials,
        }


class Monitor:
    """Compares the rows that a policy routes with its guarantee and with its calibration data.

    - The **agreement** of the answers with the last stage's, from a random sample of all rows. It must not fall below
      ``least_agreement``, or the guaranteed agreement, or, for other targets, a lower bound from the calibration data.
    - The **forward rate** of each stage but the last, from all rows. It must stay in an interval from the calibration
      data.
    - The **repeat rate** of the rows that return from the last stage, if it runs behind a border between processes: how
      often its answer is the last answer before that border. It must stay in such an interval too.

    If traffic has the distribution of the calibration data and the guarantee is satisfied, the probability of any alarm
    is at most ``share * delta``, over the draw of the calibration data and all traffic, for any length of time. Half of
    that is spent on the agreement (all of it, without a reference), the other half is divided among the rates. Where a
    bound is estimated from calibration data, half of the part is spent on the bound.

    Args:
        policy: K stages; with a reference in its certificate.
        delta: probability of a false alarm of all monitors together, and of an error of each estimate, in (0, 1).
        share: the part of that probability that this monitor may use, in (0, 1]; each monitor gets a part of the
            traffic, or one policy.
        first_behind: index of the first stage behind the border, K if there is none.
        least_agreement: set by the operator, in [0, 1].
        rate_tolerance: by which a forward or repeat rate may leave its interval, in [0, 1].

    Attributes:
        agreement: tested; ``None`` without a value to compare it with.
        rates: tested; none without a reference.
    """

    def __init__(
        self,
        policy: Policy,
        delta: float,
        share: float = 1.0,
        first_behind: int | None = None,
        least_agreement: float | None = None,
        rate_tolerance: float = 0.0,
    ) -> None:
        self.delta = delta
        self._stages = policy.stages
        self._first_behind = len(policy.stages) if first_behind is None else first_behind
        reference = policy.reference
        whole = share * delta
        risk = whole if reference is None or len(policy.stages) == 1 else whole / 2
        least, source = _least_agreement(policy, least_agreement, risk / 2)
        self.agreement: WatchedRate | None = None
        if least is not None:
            bet = risk / 2 if source == "calibration" else risk
            self.agreement = WatchedRate("agreement", None, source, RateTest(least, 1.0, bet))
        self.rates = _watched_rates(policy, whole - risk, self._first_behind, rate_tolerance)
        self._answered = np.zeros(len(self._stages), dtype=np.int64)
        self._audited = np.zeros((2, len(self._stages)), dtype=np.int64)

    @property
    def watched(self) -> list[WatchedRate]:
        """Everything that is tested."""
        return [*([] if self.agreement is None else [self.agreement]), *self.rates]

    @property
    def alarms(self) -> list[WatchedRate]:
        """The rates that were found outside their intervals."""
        return [each for each in self.watched if each.test.alarm]

    def add_decided(self, answered: np.ndarray, forwarded: int) -> None:
        """Adds rows that the stages before the border have decided, all of them.

        Args:
            answered: (K,) int, rows that each stage answered; 0 behind the border.
            forwarded: rows that crossed it.
        """
        self._add_answered(answered, forwarded, 0, self._first_behind)

    def add_returned(self, answered: np.ndarray, repeated: int) -> None:
        """Adds rows that were answered behind the border.

        Args:
            answered: (K,) int, rows that each stage answered; 0 before the border.
            repeated: of those that the last stage answered, the rows whose last answer before the border was the same.
        """
        self._add_answered(answered, 0, self._first_behind, len(self._stages))
        for each in self.rates:
            if each.name == "repeat_rate":
                each.test.update(repeated, int(answered[-1]))

    def _add_answered(self, answered: np.ndarray, forwarded: int, first: int, stop: int) -> None:
        self._answered += answered
        # Of each stage: the rows that it answered, and all that went on from it or passed it by.
        came = np.cumsum(answered[::-1])[::-1] + forwarded
        for k, each in enumerate(self.rates):
            if each.name == "forward_rate" and first <= k < stop:
                each.test.update(int(came[k] - answered[k]), int(came[k]))

    def add_audited(self, stage: np.ndarray, agrees: np.ndarray) -> None:
        """Adds a random sample of rows.

        Args:
            stage: (m,) int, the stage that answered each.
            agrees: (m,) bool, whether the last stage gives the same answer; true where it answered.
        """
        stages = len(self._stages)
        self._audited += [np.bincount(stage, minlength=stages), np.bincount(stage[agrees], minlength=stages)]
        if self.agreement is not None:
            self.agreement.test.update(int(np.count_nonzero(agrees)), len(agrees))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; each interval alone has level 1 - delta."""
        rows, agreed = self._audited.tolist()
        stages = zip(self._stages[:-1], rows[:-1], agreed[:-1], strict=True)
        return {
            "alarm": bool(self.alarms),
            "delta": self.delta,
            "answered_rows": dict(zip(self._stages, self._answered.tolist(), strict=True)),
            "agreement": estimate(sum(agreed), sum(rows), self.delta),
            "accepted_agreement": estimate(sum(agreed[:-1]), sum(rows[:-1]), self.delta),
            "stage_agreement": {name: estimate(same, audited, self.delta) for name, audited, same in stages},
            "watched": [each.to_dict() for each in self.watched],
        }


def estimate(agreed: int, rows: int, delta: float) -> dict[str, Any]:
    """A share and its interval, which is valid at all times at once, as plain values.

    Args:
        agreed: rows that agree.
        rows: a random sample.
        delta: probability that the interval is ever wrong.
    """
    low, high = rate_interval(agreed, rows, delta)
    return {"rows": rows, "agreed": agreed, "rate": agreed / rows if rows else None, "low": low, "high": high}


def _least_agreement(policy: Policy, given: float | None, risk: float) -> tuple[float | None, str]:
    """The least agreement, if there is one, and its source."""
    if given is not None:
        return given, "operator"
    guaranteed = policy.guaranteed_agreement
    if guaranteed is not None:
        return guaranteed, "guarantee"
    return (None, "") if policy.reference is None else (policy.reference.least_agreement(risk), "calibration")


def _watched_rates(policy: Policy, risk: float, first_behind: int, tolerance: float) -> list[WatchedRate]:
    """The forward rates of stages 0 to K - 2, then the repeat rate, if there is a border."""
    reference, stages = policy.reference, len(policy.stages)
    if reference is None or stages == 1:
        return []
    repeats = first_behind < stages
    part = risk / (stages - 1 + repeats) / 2

    def watched(name: str, stage: int, interval: tuple[float, float]) -> WatchedRate:
        low, high = max(0.0, interval[0] - tolerance), min(1.0, interval[1] + tolerance)
        return WatchedRate(name, policy.stages[stage], "calibration", RateTest(low, high, part))

    found = [watched("forward_rate", k, reference.forward_rate(k, part)) for k in range(stages - 1)]
    if repeats:
        found.append(watched("repeat_rate", first_behind - 1, reference.repeat_rate(first_behind - 1, part)))
    return found
