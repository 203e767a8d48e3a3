"""A replay: which stage of a policy answers each row of a score table, with gains and costs."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cascade.calibration import Evaluation, Identity, Judgement, Policy, ScoreTable, evaluate, judge
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.detection import Detection
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.reports.measures.frontier_points import FrontierPoint, class_of_recall, frontier_points
from cascade.reports.measures.reliability import Reliability, reliability
from cascade.reports.measures.risk_coverage import RiskCoverage, risk_coverage
from cascade.routers import Router, reached_stages

__all__ = ["Replay"]


@dataclass(frozen=True, eq=False)
class Replay:
    """A policy replayed on a score table of n rows and K stages.

    Attributes:
        table: the score table.
        policy: the operating point.
        evaluation: means over the rows, with intervals.
        confidence: (n, K) calibrated confidence in [0, 1].
        runs: (n, K) bool, the stages that run on each row.
        gain: (n, K) bool, whether each stage's answer is right; without labels, whether it is the last stage's.
    """

    table: ScoreTable
    policy: Policy
    evaluation: Evaluation
    confidence: np.ndarray
    runs: np.ndarray
    gain: np.ndarray

    def __repr__(self) -> str:
        return f"Replay({len(self.table)} rows, {self.policy})"

    @classmethod
    def of(cls, table: ScoreTable, policy: Policy) -> "Replay":
        """Replays a policy.

        Raises:
            PolicyError: the policy is for other stages than the table's.
        """
        evaluation = evaluate(table, policy)
        confidence = calibrated_confidence(table, policy.routers)
        gain = table.agrees if table.label is None else table.correct
        runs = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)
        return cls(table, policy, evaluation, confidence, runs, gain)

    @cached_property
    def judgement(self) -> Judgement:
        """Whether the policy's targets hold on these rows.

        Raises:
            PolicyError: its certificate cannot be read.
        """
        return judge(self.table, self.policy, self.evaluation.level)

    @property
    def positive_name(self) -> str:
        """Name of the positive class, or its number; empty without one."""
        detection, classes = self.evaluation.detection, self.table.classes
        if detection is None:
            return ""
        if classes is None or detection.positive >= len(classes):
            return f"class {detection.positive}"
        return str(classes[detection.positive])

    @property
    def gain_name(self) -> str:
        """The measure of ``gain``: "accuracy" or "agreement"."""
        return "agreement" if self.table.label is None else "accuracy"

    @cached_property
    def _recalled(self) -> Detection | None:
        positive = class_of_recall(self.policy, self.table)
        return None if positive is None else Detection.of(self.table, positive)

    @property
    def sought_name(self) -> str:
        """What the frontier compares with cost: "recall" for a policy with a target of it, else ``gain_name``."""
        return self.gain_name if self._recalled is None else "recall"

    @property
    def sought_words(self) -> str:
        """``sought_name`` in full."""
        return "agreement with the last stage" if self.sought_name == "agreement" else self.sought_name

    @property
    def stage(self) -> np.ndarray:
        """(n,) int, the stage that answers each row: the last one that runs on it."""
        return np.asarray(self.table.stages - 1 - self.runs[:, ::-1].argmax(axis=1))

    @property
    def answered(self) -> np.ndarray:
        """(K,) int, rows that each stage answered."""
        return np.bincount(self.stage, minlength=self.table.stages)

    @property
    def reached(self) -> np.ndarray:
        """(K,) int, rows that reached each stage."""
        return np.asarray(self.runs.sum(axis=0))

    @property
    def deferred_early(self) -> np.ndarray:
        """(K,) int, rows that each stage deferred early, past others to the last stage."""
        early = np.zeros(self.table.stages, dtype=np.int64)
        running = np.flatnonzero(self.policy.runs)
        runs = self.runs[:, running]
        early[running[:-2]] = (runs[:, :-2] & ~runs[:, 1:-1] & runs[:, -1:]).sum(axis=0)
        return early

    @property
    def answered_gain(self) -> np.ndarray:
        """(K,) float in [0, 1], mean gain of the rows that each stage answered; NaN if it answered none."""
        gained = self.gain[np.arange(len(self.table)), self.stage]
        sums = np.bincount(self.stage, weights=gained, minlength=self.table.stages)
        answered = self.answered
        return np.where(answered > 0, sums / np.maximum(answered, 1), np.nan)

    @property
    def chosen_gain(self) -> float:
        """Mean gain of the policy, in [0, 1]."""
        accuracy = self.evaluation.accuracy
        return self.evaluation.agreement if accuracy is None else accuracy

    @property
    def sought(self) -> float:
        """Accuracy, agreement or recall (``sought_name``) of the policy, in [0, 1]."""
        seen = self.evaluation.detection
        return self.chosen_gain if self._recalled is None or seen is None else float(seen.recall or 0.0)

    @property
    def single_sought(self) -> np.ndarray:
        """(K,) float in [0, 1], the same of each stage alone on all rows."""
        seen = self._recalled
        return self.single_gain if seen is None else np.asarray(seen.gain.mean(axis=0) / seen.share)

    @property
    def single_gain(self) -> np.ndarray:
        """(K,) float in [0, 1], mean gain of each stage alone on all rows."""
        return np.asarray(self.gain.mean(axis=0))

    @property
    def single_cost(self) -> np.ndarray:
        """(K,) float, mean cost per row of each stage alone."""
        work = self.table.work.mean(axis=0)
        prices = self._prices
        return work if prices is None else np.array([float(prices.of_stage(k, w)) for k, w in enumerate(work)])

    @property
    def cost(self) -> np.ndarray:
        """(n,) float, cost of each row at all stages that ran on it; with cost curves, at marginal costs."""
        work, prices = self.table.work, self._prices
        return (
            np.asarray(np.where(self.runs, work, 0.0).sum(axis=1))
            if prices is None
            else prices.row_cost(work, self.runs)
        )

    @cached_property
    def _prices(self) -> StagePrices | None:
        return self.table.prices(self.arrivals)

    @property
    def arrivals(self) -> Arrivals:
        """How many rows come together, if the table has cost curves."""
        return self.policy.arrivals or DEFAULT_ARRIVALS

    @property
    def cost_ratio(self) -> float | None:
        """Mean cost of the last stage alone over that of the cascade; ``None`` if either is 0."""
        cascade, last = self.evaluation.mean_cost, self.evaluation.last_stage_cost
        return last / cascade if cascade > 0 and last > 0 else None

    def problem(self) -> RoutingProblem:
        """The threshold search with the policy's routers on these rows, for cost and what is sought."""
        optional, recalled = not self.policy.needs_evidence, self._recalled
        gain = self.gain.astype(np.float64) if recalled is None else recalled.gain
        problem = RoutingProblem.priced(self.confidence[:, :-1], gain, self.table.work, self._prices, optional)
        return replace(problem, detection=recalled)

    @cached_property
    def frontier(self) -> list[FrontierPoint]:
        """The empirical frontier of the rows, cheapest first, without a guarantee."""
        return frontier_points(self.problem())

    def reliability(self, stage: int) -> tuple[Reliability, Reliability]:
        """Reliability of a stage on all rows, before and after calibration.

        Args:
            stage: index from 0.
        """
        scores = None if self.table.scores is None else self.table.scores[:, stage]
        raw = Router(self.policy.routers[stage].score, Identity()).confidence(scores, self.table.confidence[:, stage])
        gain = self.gain[:, stage]
        return reliability(raw, gain), reliability(self.confidence[:, stage], gain)

    def risk_coverage(self, stage: int) -> RiskCoverage:
        """Risk of a stage on all rows, in the order of its calibrated confidence.

        Args:
            stage: index from 0.
        """
        return risk_coverage(self.confidence[:, stage], self.gain[:, stage])

    @property
    def judged_stages(self) -> list[int]:
        """Stages whose confidence can be judged: all; without labels, all but the last, which agrees with itself."""
        return list(range(self.table.stages - (self.table.label is None)))
