"""All that is watched of one policy in force."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.monitoring.confidence_sequence import rate_interval
from cascade.calibration.monitoring.rate_test import RateTest
from cascade.calibration.policies.policy import Policy

__all__ = ["Monitor", "Watched", "estimate"]


@dataclass(frozen=True, eq=False)
class Watched:
    """A rate that is held against an interval.

    Attributes:
        name: "agreement", "forward_rate" or "repeat_rate".
        stage: name of the stage that it is about; ``None`` for the whole cascade.
        source: where the interval comes from: "operator", "guarantee" or "calibration".
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
    """Holds the rows that a policy routes against what was promised, and against its calibration data.

    - The **agreement** of the answers with the last stage's, from a random sample of all rows: must not fall below
      ``least_agreement``, or what the certificate promises, or, of other targets, a lower bound of what the
      calibration data said.
    - The **forward rate** of each stage but the last, from all rows: must stay within what the calibration data said.
    - The **repeat rate** of the rows that come back from the last stage, if it is behind a border between processes:
      how often it says what the stages before that border had said; must stay likewise.

    If the traffic is like the calibration data, and the promise holds, then any alarm at all comes with probability at
    most ``share * delta``, over the draw of the calibration data and all of the traffic, however long it runs. Half of
    that risk is the agreement's (all of it, where there is no reference), the other half is divided among the rates.
    Where a bound is estimated from calibration data, half of the part is the risk of the bound.

    Args:
        policy: K stages; with a reference in its certificate.
        delta: risk of a false alarm of all monitors together, and of each estimate, in (0, 1).
        share: the part of that risk that this monitor has, in (0, 1]; each sees a part of the traffic, or one policy.
        first_behind: index of the first stage behind the border, K if there is none.
        least_agreement: by the operator, in [0, 1].
        rate_tolerance: by which a forward or repeat rate may leave its interval, in [0, 1].

    Attributes:
        agreement: tested; ``None`` if nothing says what it should be.
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
        self.agreement: Watched | None = None
        if least is not None:
            bet = risk / 2 if source == "calibration" else risk
            self.agreement = Watched("agreement", None, source, RateTest(least, 1.0, bet))
        self.rates = _watched_rates(policy, whole - risk, self._first_behind, rate_tolerance)
        self._answered = np.zeros(len(self._stages), dtype=np.int64)
        self._audited = np.zeros((2, len(self._stages)), dtype=np.int64)

    @property
    def watched(self) -> list[Watched]:
        """Everything that is tested."""
        return [*([] if self.agreement is None else [self.agreement]), *self.rates]

    @property
    def alarms(self) -> list[Watched]:
        """Those found outside."""
        return [each for each in self.watched if each.test.alarm]

    def see_decided(self, answered: np.ndarray, forwarded: int) -> None:
        """Takes in rows that the stages before the border have looked at, all of them.

        Args:
            answered: (K,) int, rows that each stage answered; 0 behind the border.
            forwarded: rows that went over it.
        """
        self._see_answered(answered, forwarded, 0, self._first_behind)

    def see_returned(self, answered: np.ndarray, repeated: int) -> None:
        """Takes in rows that were answered behind the border.

        Args:
            answered: (K,) int, rows that each stage answered; 0 before the border.
            repeated: of those that the last stage answered, those on which the word before the border was the same.
        """
        self._see_answered(answered, 0, self._first_behind, len(self._stages))
        for each in self.rates:
            if each.name == "repeat_rate":
                each.test.update(repeated, int(answered[-1]))

    def _see_answered(self, answered: np.ndarray, forwarded: int, first: int, stop: int) -> None:
        self._answered += answered
        # Of each stage: its own rows, and all that came to it or skipped it.
        came = np.cumsum(answered[::-1])[::-1] + forwarded
        for k, each in enumerate(self.rates):
            if each.name == "forward_rate" and first <= k < stop:
                each.test.update(int(came[k] - answered[k]), int(came[k]))

    def see_audited(self, stage: np.ndarray, agrees: np.ndarray) -> None:
        """Takes in a random sample of rows.

        Args:
            stage: (m,) int, the stage that answered each.
            agrees: (m,) bool, whether the last stage says the same; true where it answered.
        """
        stages = len(self._stages)
        self._audited += [np.bincount(stage, minlength=stages), np.bincount(stage[agrees], minlength=stages)]
        if self.agreement is not None:
            self.agreement.test.update(int(np.count_nonzero(agrees)), len(agrees))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; every interval holds with probability 1 - delta on its own."""
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
    """A share and its interval, which holds at all times at once, as plain values.

    Args:
        agreed: rows that agree.
        rows: a random sample.
        delta: risk of the interval.
    """
    low, high = rate_interval(agreed, rows, delta)
    return {"rows": rows, "agreed": agreed, "rate": agreed / rows if rows else None, "low": low, "high": high}


def _least_agreement(policy: Policy, given: float | None, risk: float) -> tuple[float | None, str]:
    """The least agreement, if there is one, and where it comes from."""
    if given is not None:
        return given, "operator"
    guaranteed = policy.guaranteed_agreement
    if guaranteed is not None:
        return guaranteed, "guarantee"
    return (None, "") if policy.reference is None else (policy.reference.least_agreement(risk), "calibration")


def _watched_rates(policy: Policy, risk: float, first_behind: int, tolerance: float) -> list[Watched]:
    """The forward rates of stages 0 to K - 2, then the repeat rate, where it is seen."""
    reference, stages = policy.reference, len(policy.stages)
    if reference is None or stages == 1:
        return []
    repeats = first_behind < stages
    part = risk / (stages - 1 + repeats) / 2

    def watched(name: str, stage: int, interval: tuple[float, float]) -> Watched:
        low, high = max(0.0, interval[0] - tolerance), min(1.0, interval[1] + tolerance)
        return Watched(name, policy.stages[stage], "calibration", RateTest(low, high, part))

    found = [watched("forward_rate", k, reference.forward_rate(k, part)) for k in range(stages - 1)]
    if repeats:
        found.append(watched("repeat_rate", first_behind - 1, reference.repeat_rate(first_behind - 1, part)))
    return found
