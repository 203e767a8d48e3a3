"""Recall, precision and false-positive rate of a cascade, and those of each of its stages."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.detection import Detection
from cascade.calibration.exact_binomial import exact_interval

__all__ = ["DetectionRates", "detection_rates"]

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class DetectionRates:
    """Rates of a policy on n rows, with exact two-sided binomial intervals (Clopper and Pearson).

    A stage's own rates are those of Viola and Jones ("Rapid Object Detection using a Boosted Cascade of Simple
    Features", CVPR 2001, section 4): of the rows that reach it, which it passes on or answers as positive. Their
    products are the classical rule for the whole cascade. It is exact on the same rows where all stages but the last
    only reject, and no statement about future data.

    Attributes:
        positive: the positive class.
        positives: number of rows with this label.
        recall: share of the positive rows that are answered as positive; ``None`` without positive rows.
        recall_interval: of it.
        answered_positive: number of rows answered as positive.
        precision: share of them that are positive; ``None`` if there are none.
        precision_interval: of it.
        false_positive_rate: share of the negative rows that are answered as positive; ``None`` without negative rows.
        false_positive_rate_interval: of it.
        stage_detection_rate: (K,) of the positive rows that reach a stage; NaN where none does.
        stage_false_positive_rate: (K,) of the negative rows that reach a stage; NaN where none does.
    """

    positive: int
    positives: int
    recall: float | None
    recall_interval: Interval
    answered_positive: int
    precision: float | None
    precision_interval: Interval
    false_positive_rate: float | None
    false_positive_rate_interval: Interval
    stage_detection_rate: np.ndarray
    stage_false_positive_rate: np.ndarray

    @property
    def product_detection_rate(self) -> float:
        """Product of the stages' detection rates; a stage that no positive row reaches counts as 1."""
        return float(np.nanprod(self.stage_detection_rate))

    @property
    def product_false_positive_rate(self) -> float:
        """Product of the stages' false-positive rates; a stage that no negative row reaches counts as 1."""
        return float(np.nanprod(self.stage_false_positive_rate))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; NaN is ``None``."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        numbers = {name: [None if np.isnan(each) else float(each) for each in value] for name, value in arrays.items()}
        return (
            vars(self)
            | numbers
            | {
                "product_detection_rate": self.product_detection_rate,
                "product_false_positive_rate": self.product_false_positive_rate,
            }
        )


def detection_rates(
    detection: Detection, positive: int, reached: np.ndarray, answered: np.ndarray, level: float
) -> DetectionRates:
    """The rates on n rows.

    Args:
        detection: of the rows.
        positive: its class.
        reached: (n, K) bool, the stages that each row reaches; the last of them answers it.
        answered: (n,) bool; a row without an answer is not answered as positive.
        level: of the intervals, in (0, 1).
    """
    is_positive, stages = detection.is_positive, reached.shape[1]
    stage = stages - 1 - reached[:, ::-1].argmax(axis=1)
    answered_positive = answered & np.take_along_axis(detection.answered, stage[:, None], axis=1)[:, 0]
    # A stage keeps a row that goes on, or that it answers as positive.
    ends_here = stage[:, None] == np.arange(stages)
    kept = reached & (~ends_here | answered_positive[:, None])
    tail = (1 - level) / 2

    def rate(which: np.ndarray, of: np.ndarray) -> tuple[float | None, Interval]:
        found, rows = int(np.count_nonzero(which & of)), int(np.count_nonzero(of))
        return (found / rows if rows else None), exact_interval(found, rows, tail)

    def stage_rates(of: np.ndarray) -> np.ndarray:
        rows = reached[of].sum(axis=0)
        return np.where(rows > 0, kept[of].sum(axis=0) / np.maximum(rows, 1), np.nan)

    recall, recall_interval = rate(answered_positive, is_positive)
    precision, precision_interval = rate(is_positive, answered_positive)
    false_positive_rate, false_positive_rate_interval = rate(answered_positive, ~is_positive)
    return DetectionRates(
        positive=positive,
        positives=int(is_positive.sum()),
        recall=recall,
        recall_interval=recall_interval,
        answered_positive=int(answered_positive.sum()),
        precision=precision,
        precision_interval=precision_interval,
        false_positive_rate=false_positive_rate,
        false_positive_rate_interval=false_positive_rate_interval,
        stage_detection_rate=stage_rates(is_positive),
        stage_false_positive_rate=stage_rates(~is_positive),
    )
