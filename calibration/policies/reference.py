"""What the calibration data said of a policy: what the traffic is held against."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.routing_problem import calibrated_confidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import PolicyError
from cascade.routers import Router, reached_stages, running_stages

__all__ = ["Reference"]

SMALLEST_TAIL = 1e-300


@dataclass(frozen=True)
class Reference:
    """Counts of n rows that judged a policy of K stages.

    The thresholds were chosen with an eye on these rows, so their counts look a little too good. All policies that
    could have been chosen are therefore bounded at once: the risk of every interval is divided by their number.

    Attributes:
        rows: n.
        stage_rows: (K,), the rows that each stage answers.
        agreed_rows: rows whose answer is the last stage's.
        repeated_rows: (K - 1,), of the rows that the last stage answers, those on which the last word of stages 0 to k
            was the same.
        log_choices: logarithm of the number of policies among which these rows chose; 0 if there was no choice.
    """

    rows: int
    stage_rows: tuple[int, ...]
    agreed_rows: int
    repeated_rows: tuple[int, ...]
    log_choices: float = 0.0

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
            routers: K routers.
            thresholds: (K - 1,).
            defer_below: (K - 1,), early-deferral thresholds.
            log_choices: how many policies these rows chose among, as a logarithm.
        """
        runs = running_stages(thresholds, defer_below, any(router.head is not None for router in routers))
        asked = reached_stages(calibrated_confidence(table, routers), thresholds, defer_below, runs)
        stage = table.stages - 1 - asked[:, ::-1].argmax(axis=1)
        said, last = table.prediction, table.prediction[:, -1]
        forwarded = stage == table.stages - 1
        word, repeated = np.full(len(table), -1), []
        for k in range(table.stages - 1):
            word = np.where(asked[:, k], said[:, k], word)
            repeated.append(int(np.count_nonzero(forwarded & (word == last))))
        return cls(
            rows=len(table),
            stage_rows=tuple(np.bincount(stage, minlength=table.stages).tolist()),
            agreed_rows=int(np.count_nonzero(said[np.arange(len(table)), stage] == last)),
            repeated_rows=tuple(repeated),
            log_choices=log_choices,
        )

    @classmethod
    def from_dict(cls, values: Any, stages: int) -> "Reference":
        """The inverse of :meth:`to_dict`.

        Args:
            values: as they came from a file.
            stages: K.

        Raises:
            PolicyError: they are not the counts of such rows.
        """
        names = ("rows", "stage_rows", "agreed_rows", "repeated_rows", "log_choices")
        if not isinstance(values, Mapping) or set(values) != set(names):
            raise PolicyError(f"certificate.reference must be an object with {', '.join(names)}; got {values!r}")
        rows, stage_rows, agreed, repeated, log_choices = (values[name] for name in names)
        if not (
            _are_counts([rows, agreed])
            and _are_counts(stage_rows, stages)
            and _are_counts(repeated, stages - 1)
            and sum(stage_rows) == rows >= max(1, agreed)
            and all(count <= stage_rows[-1] for count in repeated)
            and isinstance(log_choices, int | float)
            and 0 <= log_choices < math.inf
        ):
            raise PolicyError(
                f"certificate.reference must hold counts of rows that add up, for {stages} stages; got {dict(values)!r}"
            )
        return cls(rows, tuple(stage_rows), agreed, tuple(repeated), float(log_choices))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def least_agreement(self, risk: float) -> float:
        """A lower bound of the share of answers that are the last stage's, broken with probability at most ``risk``."""
        return exact_interval(self.agreed_rows, self.rows, self._tail(risk))[0]

    def forward_rate(self, stage: int, risk: float) -> tuple[float, float]:
        """An interval for the share of rows that go on behind a stage, of those that no earlier one answered.

        Args:
            stage: k < K - 1.
            risk: that the rate is outside.
        """
        came = self.rows - sum(self.stage_rows[:stage])
        return exact_interval(came - self.stage_rows[stage], came, self._tail(risk / 2))

    def repeat_rate(self, stage: int, risk: float) -> tuple[float, float]:
        """An interval for the share of the last stage's rows on which stages 0 to ``stage`` had said the same."""
        return exact_interval(self.repeated_rows[stage], self.stage_rows[-1], self._tail(risk / 2))

    def _tail(self, risk: float) -> float:
        return max(SMALLEST_TAIL, math.exp(math.log(risk) - self.log_choices))


def _are_counts(values: Any, length: int | None = None) -> bool:
    if not isinstance(values, Sequence) or isinstance(values, str) or (length is not None and len(values) != length):
        return False
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)
