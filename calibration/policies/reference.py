"""What the calibration data showed of a policy, which an audit compares the traffic with."""

import math
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from typing_extensions import Self

from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import Router, reached_stages, running_stages

__all__ = ["Reference"]

SMALLEST_TAIL = 1e-300

Count = Annotated[int, Field(ge=0, strict=True)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Reference:
    """Counts over n calibration rows of a policy of K stages.

    The thresholds were chosen on these rows, so their counts are a little optimistic. All policies that could have been
    chosen are therefore bounded together: the risk of every interval is divided by their number.

    Attributes:
        rows: n >= 1.
        stage_rows: (K,), the rows that each stage answers.
        agreed_rows: rows whose answer is the last stage's.
        repeated_rows: (K - 1,), of the rows that the last stage answers, those on which stages 0 to k had last given
            the same answer.
        log_choices: >= 0, logarithm of the number of policies among which these rows chose; 0 without a choice.

    Raises:
        pydantic.ValidationError: the counts do not add up.
    """

    rows: Annotated[Count, Field(ge=1)]
    stage_rows: tuple[Count, ...]
    agreed_rows: Count
    repeated_rows: tuple[Count, ...]
    log_choices: Annotated[float, Field(ge=0, strict=True)] = 0.0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.stage_rows) != self.rows or self.agreed_rows > self.rows:
            raise ValueError("stage_rows must add up to rows, and agreed_rows be no more")
        if len(self.repeated_rows) != len(self.stage_rows) - 1:
            raise ValueError("repeated_rows must have one number fewer than stage_rows")
        if max(self.repeated_rows, default=0) > self.stage_rows[-1]:
            raise ValueError("repeated_rows must not be above the last of stage_rows")
        return self

    @classmethod
    def of(
        cls,
        table: ScoreTable,
        routers: tuple[Router, ...],
        thresholds: np.ndarray,
        defer_below: np.ndarray,
        log_choices: float = 0.0,
    ) -> "Reference":
        """Counts on a score table.

        Args:
            table: n rows, K stages.
            routers: K.
            thresholds: (K - 1,).
            defer_below: (K - 1,), early-deferral thresholds.
            log_choices: logarithm of the number of policies among which these rows chose.
        """
        runs = running_stages(thresholds, defer_below, any(router.head is not None for router in routers))
        reached = reached_stages(calibrated_confidence(table, routers), thresholds, defer_below, runs)
        stage = table.stages - 1 - reached[:, ::-1].argmax(axis=1)
        last = table.prediction[:, -1]
        answered_last = stage == table.stages - 1
        answer, repeated = np.full(len(table), -1), []
        for k in range(table.stages - 1):
            answer = np.where(reached[:, k], table.prediction[:, k], answer)
            repeated.append(int(np.count_nonzero(answered_last & (answer == last))))
        return cls(
            rows=len(table),
            stage_rows=tuple(np.bincount(stage, minlength=table.stages).tolist()),
            agreed_rows=int(np.count_nonzero(table.prediction[np.arange(len(table)), stage] == last)),
            repeated_rows=tuple(repeated),
            log_choices=log_choices,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def least_agreement(self, risk: float) -> float:
        """A lower bound of the agreement with the last stage, violated with probability at most ``risk``."""
        return exact_interval(self.agreed_rows, self.rows, self._tail(risk))[0]

    def forward_rate(self, stage: int, risk: float) -> tuple[float, float]:
        """An interval for the share of rows that a stage defers, of those that no earlier stage answered.

        Args:
            stage: k < K - 1.
            risk: probability that the rate is outside.
        """
        reached = self.rows - sum(self.stage_rows[:stage])
        return exact_interval(reached - self.stage_rows[stage], reached, self._tail(risk / 2))

    def repeat_rate(self, stage: int, risk: float) -> tuple[float, float]:
        """An interval for the share of the last stage's rows that stages 0 to ``stage`` had last answered the same."""
        return exact_interval(self.repeated_rows[stage], self.stage_rows[-1], self._tail(risk / 2))

    def _tail(self, risk: float) -> float:
        return max(SMALLEST_TAIL, math.exp(math.log(risk) - self.log_choices))
