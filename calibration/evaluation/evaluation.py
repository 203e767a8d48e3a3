"""Accuracy and cost of a policy on a score table, with confidence intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.detection import Detection
from cascade.calibration.evaluation.detection_rates import DetectionRates, detection_rates
from cascade.calibration.exact_binomial import exact_interval
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.policies.policy import Policy
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import PolicyError
from cascade.html_table import html_table
from cascade.routers import abstained, reached_stages

__all__ = ["Evaluation", "evaluate", "proportion_interval"]

Interval = tuple[float, float]

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Means over n rows, with two-sided intervals at the given level.

    Attributes:
        rows: n.
        accuracy: share of right answers among the answered rows, in [0, 1]; ``None`` without labels, or if the
            policy abstains on all of them.
        accuracy_interval: exact binomial interval (Clopper and Pearson).
        abstained: share of the rows without an answer, in [0, 1].
        abstained_interval: exact binomial interval.
        agreement: share of answers equal to the last stage's, in [0, 1]; a row without an answer agrees.
        agreement_interval: exact binomial interval.
        mean_cost: mean cost per row; where the table has cost curves, predicted for the arrivals.
        mean_cost_interval: normal approximation, mean +- z s / sqrt(n), without errors of the curves.
        last_stage_cost: mean cost per row of the last stage alone, at its own best batch size.
        last_stage_accuracy: accuracy of the last stage alone; ``None`` without labels.
        cost_unit: unit of the costs.
        stage: K names.
        stage_share: (K,) share of the rows that each stage answered; the last one includes abstentions.
        stage_share_interval: (K, 2) exact binomial intervals.
        reached_share: (K,) reach share of each stage, of the work; of the rows, where all have the same work.
        arrivals: that the costs are predicted for; ``None`` where costs are constants per row.
        level: of the intervals, such as 0.95.
        detection: recall and other rates of a positive class; ``None`` without one or without labels.
    """

    rows: int
    accuracy: float | None
    accuracy_interval: Interval | None
    abstained: float
    abstained_interval: Interval
    agreement: float
    agreement_interval: Interval
    mean_cost: float
    mean_cost_interval: Interval
    last_stage_cost: float
    last_stage_accuracy: float | None
    cost_unit: str
    stage: tuple[str, ...]
    stage_share: np.ndarray
    stage_share_interval: np.ndarray
    reached_share: np.ndarray
    arrivals: Arrivals | None
    level: float
    detection: DetectionRates | None = None

    def __repr__(self) -> str:
        accuracy = "" if self.accuracy is None else f"accuracy {self.accuracy:.4f}, "
        abstained = f", {self.abstained:.1%} abstained" if self.abstained else ""
        recall = self.detection and self.detection.recall
        accuracy += "" if recall is None else f"recall {recall:.4f}, "
        return (
            f"Evaluation({self.rows} rows: {accuracy}agreement {self.agreement:.4f}, "
            f"mean cost {self.mean_cost:.4g} {self.cost_unit}{abstained})"
        )

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{reached:.1%}", f"{share:.1%}", f"{low:.1%} to {high:.1%}")
            for name, reached, share, (low, high) in zip(
                self.stage, self.reached_share, self.stage_share, self.stage_share_interval, strict=True
            )
        ]
        level = f"{100 * self.level:g} % interval"
        measures = {
            "accuracy": (self.accuracy, self.accuracy_interval),
            "agreement with the last stage": (self.agreement, self.agreement_interval),
            f"mean cost in {self.cost_unit}": (self.mean_cost, self.mean_cost_interval),
            "abstained": (self.abstained or None, self.abstained_interval),
        }
        if self.detection is not None:
            measures |= {
                "recall": (self.detection.recall, self.detection.recall_interval),
                "precision": (self.detection.precision, self.detection.precision_interval),
                "false-positive rate": (
                    self.detection.false_positive_rate,
                    self.detection.false_positive_rate_interval,
                ),
            }
        notes = [
            f"{name}: {value:.4g} ({level}: {interval[0]:.4g} to {interval[1]:.4g})"
            for name, (value, interval) in measures.items()
            if value is not None and interval is not None
        ]
        header = ("stage", "reached by", "answers", level)
        return html_table(f"Evaluation on {self.rows:,} rows", header, rows, [*notes, self.warning or ""])

    @property
    def warning(self) -> str | None:
        """A sentence if the last stage alone is cheaper, ``None`` otherwise."""
        if self.mean_cost <= self.last_stage_cost * (1 + ROUNDING):
            return None
        together = "" if self.arrivals is None else f" for {self.arrivals}"
        sentence = (
            f"no cascade: {self.stage[-1]!r} alone costs {self.last_stage_cost:.4g} {self.cost_unit} "
            f"per row{together}, the cascade {self.mean_cost:.4g}"
        )
        if self.accuracy is None or self.last_stage_accuracy is None or self.accuracy >= self.last_stage_accuracy:
            return sentence
        return f"{sentence}, and it is less accurate: {self.accuracy:.4f} compared with {self.last_stage_accuracy:.4f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()
        }
        return values | {
            "arrivals": None if self.arrivals is None else str(self.arrivals),
            "warning": self.warning,
            "detection": None if self.detection is None else self.detection.to_dict(),
        }


def evaluate(
    table: ScoreTable,
    policy: Policy,
    level: float = 0.95,
    arrivals: Arrivals | None = None,
    positive: int | None = None,
) -> Evaluation:
    """Replays a policy on a score table.

    Args:
        table: n rows, the stages of the policy in its order.
        policy: the operating point.
        level: of the confidence intervals, in (0, 1).
        arrivals: how many rows come together, where the table has cost curves; by default as the policy was chosen.
        positive: a class whose recall is computed, by its number; by default that of the policy's target of recall.

    Raises:
        ScoreTableError: the first argument is not a table.
        PolicyError: the second one is not a policy, or has other stages.
    """
    ScoreTable.require(table)
    if not isinstance(policy, Policy):
        raise PolicyError(f"a Policy is needed; got {type(policy).__name__}. Policy.load reads a file")
    if tuple(map(str, table.stage)) != policy.stages:
        raise PolicyError(f"the policy is for stages {list(policy.stages)}, the score table has {table.stage.tolist()}")
    n = len(table)
    confidence = calibrated_confidence(table, policy.routers)
    reached = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)
    stage = table.stages - 1 - reached[:, ::-1].argmax(axis=1)
    answered = ~(reached[:, -1] & abstained(confidence[:, -1], policy.abstain_below))
    answers = int(np.count_nonzero(answered))
    arrivals = arrivals or policy.arrivals or DEFAULT_ARRIVALS
    prices, work = table.prices(arrivals), table.work
    cost = np.where(reached, work, 0.0).sum(axis=1) if prices is None else prices.row_cost(work, reached)
    last_cost = work[:, -1].mean() if prices is None else prices.of_stage(-1, work[:, -1].mean())
    agreed = int(np.take_along_axis(table.agrees, stage[:, None], axis=1).sum())
    counts = np.bincount(stage, minlength=table.stages)
    right = None
    if table.label is not None and answers:
        right = int(np.take_along_axis(table.correct, stage[:, None], axis=1)[answered].sum())
    positive = positive_of(policy.certificate) if positive is None else positive
    detection = None
    if positive is not None and table.label is not None:
        detection = detection_rates(Detection.of(table, positive), positive, reached, answered, level)
    return Evaluation(
        rows=n,
        accuracy=None if right is None else right / answers,
        accuracy_interval=None if right is None else proportion_interval(right, answers, level),
        abstained=(n - answers) / n,
        abstained_interval=proportion_interval(n - answers, n, level),
        agreement=agreed / n,
        agreement_interval=proportion_interval(agreed, n, level),
        mean_cost=float(cost.mean()),
        mean_cost_interval=_mean_interval(cost, level),
        last_stage_cost=float(last_cost),
        last_stage_accuracy=None if table.label is None else float(table.correct[:, -1].mean()),
        cost_unit=table.cost_unit,
        stage=policy.stages,
        stage_share=counts / n,
        stage_share_interval=np.array([proportion_interval(int(count), n, level) for count in counts]),
        reached_share=_reached_share(work, reached),
        arrivals=None if prices is None else arrivals,
        level=level,
        detection=detection,
    )


def _reached_share(work: np.ndarray, reached: np.ndarray) -> np.ndarray:
    whole = work.sum(axis=0)
    part = np.where(reached, work, 0.0).sum(axis=0)
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), reached.mean(axis=0)))


def proportion_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """The exact binomial interval of Clopper and Pearson, Biometrika 26, 1934.

    Args:
        successes: in [0, trials].
        trials: at least 1.
        level: of the interval, in (0, 1).
    """
    return exact_interval(successes, trials, (1 - level) / 2)


def _mean_interval(values: np.ndarray, level: float) -> Interval:
    from scipy.special import ndtri

    half = float(ndtri(0.5 + level / 2) * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf
    return float(values.mean()) - half, float(values.mean()) + half
