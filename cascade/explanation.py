"""Why a row got its answer: the prediction of every stage, and which stages a policy runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from cascade.calibration import OperatingPoint, Policy, ScoreTable, frontier
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.evaluation.table_policy import at_table_costs
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cascade import check_policy
from cascade.errors import ScoreTableError
from cascade.prediction import Prediction
from cascade.routers import abstained, reached_stages, running_stages
from cascade.stage import Stage

__all__ = ["Explanation", "FrontierPiece", "StageExplanation", "explain"]


@dataclass(frozen=True)
class StageExplanation:
    """The prediction of one of K stages for the row.

    Attributes:
        stage: its name.
        asked: whether the policy runs it for this row; an explanation runs all stages.
        answers: whether it answers the row.
        answer: the class that it predicts.
        raw_confidence: in [0, 1], before calibration.
        confidence: in [0, 1], calibrated (or a head's).
        threshold: minimum confidence of an answer; ``None`` for a last stage that answers every row.
        defer_below: early-deferral threshold; ``None`` without early deferral.
        cost: of this stage for the row.
        running_cost: of all stages that the policy runs up to this one; ``None`` if it does not run this one.
    """

    stage: str
    asked: bool
    answers: bool
    answer: int
    raw_confidence: float
    confidence: float
    threshold: float | None
    defer_below: float | None
    cost: float
    running_cost: float | None


@dataclass(frozen=True)
class Explanation:
    """The way of one row under one policy.

    Attributes:
        stages: K, in their order.
        policy_version: of the policy.
        cost_unit: of all costs.
        abstained: whether the cascade abstains; the answer is then only the last stage's best guess.
    """

    stages: tuple[StageExplanation, ...]
    policy_version: str
    cost_unit: str
    abstained: bool

    def __repr__(self) -> str:
        last = self.answering
        kind = "abstained, best guess" if self.abstained else "answer"
        return f"Explanation({kind} {last.answer} by {last.stage}, confidence {last.confidence:.4g})"

    @property
    def answering(self) -> StageExplanation:
        """The stage that answers the row."""
        return next(stage for stage in self.stages if stage.answers)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "policy_version": self.policy_version,
            "cost_unit": self.cost_unit,
            "stage": self.answering.stage,
            "answer": self.answering.answer,
            "confidence": self.answering.confidence,
            "cost": self.answering.running_cost,
            "abstained": self.abstained,
            "stages": [vars(stage) for stage in self.stages],
        }


@dataclass(frozen=True)
class FrontierPiece:
    """Consecutive operating points of a frontier at which the same stage answers the row.

    Attributes:
        stage: the stage that answers.
        answer: its answer.
        cost: of the row, at the cheapest and at the most expensive of the points.
        points: number of operating points.
        mean_cost: per row of the score table, at the cheapest and at the most expensive of the points.
        gain: mean accuracy on the score table (without labels: agreement with the last stage; of a policy with a
            target of recall: recall), at both.
    """

    stage: str
    answer: int
    cost: tuple[float, float]
    points: int
    mean_cost: tuple[float, float]
    gain: tuple[float, float]


@dataclass(frozen=True)
class _PredictedRow:
    """A row with the predictions of all stages.

    Attributes:
        stages: K stages.
        predictions: K predictions, of one row each.
    """

    stages: Sequence[Stage]
    predictions: Sequence[Prediction]

    def confidence(self, policy: Policy) -> np.ndarray:
        """(1, K) from the policy's routers, with all stages run."""
        evidence, columns = None, []
        for stage, prediction, router in zip(self.stages, self.predictions, policy.routers, strict=True):
            if policy.needs_evidence:
                new = stage.evidence(prediction, policy.needs_probabilities)
                evidence = new if evidence is None else np.concatenate([evidence, new], axis=1)
            columns.append(stage.confidence(prediction, router, evidence))
        return np.stack(columns, axis=1)

    def cost(self, policy: Policy) -> np.ndarray:
        """(K,) cost of each stage for the row."""
        return np.array([policy.row_cost(k, prediction)[0] for k, prediction in enumerate(self.predictions)])


def explain(
    stages: Sequence[Stage],
    row: np.ndarray,
    policies: Sequence[Policy],
    table: ScoreTable | None = None,
) -> tuple[list[Explanation], list[FrontierPiece]]:
    """Runs all stages on a row, and explains its way under each policy and along the frontier of a score table.

    All stages run, also those that a policy would not run. Stage, answer and cost are those of the served cascade. So
    is the confidence, with one exception: a head of the last stage uses the predictions of all earlier stages, and of
    a served row that is deferred early, some of them are missing.

    Args:
        stages: K stages.
        row: (1, ...), of the right shape and dtype.
        policies: one or more, of these stages.
        table: other operating points are the frontier of this table, with the first policy's routers and early
            deferral; ``None`` for none.

    Returns:
        One explanation per policy, and the pieces of the frontier, cheapest first; none without a table.

    Raises:
        PolicyError: a policy is for other stages, or has a head with inputs that a model does not return.
        ScoreTableError: the table is of other stages, or lacks the scores that the first policy's routers need.
    """
    names = [stage.name for stage in stages]
    predicted = _PredictedRow(stages, [stage.predict(row) for stage in stages])
    explanations = [_explanation(predicted, check_policy(policy, names)) for policy in policies]
    if table is None:
        return explanations, []
    if table.stage.tolist() != names:
        raise ScoreTableError(f"the score table is of the stages {table.stage.tolist()}, the config has {names}")
    return explanations, _pieces(predicted, policies[0], table)


def _explanation(predicted: _PredictedRow, policy: Policy) -> Explanation:
    confidence, cost = predicted.confidence(policy), predicted.cost(policy)
    runs = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)[0]
    last = int(np.flatnonzero(runs)[-1])
    running = np.cumsum(np.where(runs, cost, 0.0))
    thresholds = [*policy.thresholds.tolist(), policy.abstain_below if policy.abstains else None]
    explained = [
        StageExplanation(
            stage=stage.name,
            asked=bool(runs[k]),
            answers=k == last,
            answer=int(prediction.answer[0]),
            raw_confidence=float(stage.raw_confidence(prediction)[0]),
            confidence=float(confidence[0, k]),
            threshold=thresholds[k],
            defer_below=float(policy.defer_below[k]) if policy.defer_below[k : k + 1].any() else None,
            cost=float(cost[k]),
            running_cost=float(running[k]) if runs[k] else None,
        )
        for k, (stage, prediction) in enumerate(zip(predicted.stages, predicted.predictions, strict=True))
    ]
    abstains = bool(runs[-1] and abstained(confidence[:, -1], policy.abstain_below)[0])
    return Explanation(tuple(explained), policy.version, policy.cost_unit, abstains)


def _pieces(predicted: _PredictedRow, policy: Policy, table: ScoreTable) -> list[FrontierPiece]:
    arrivals = policy.arrivals or DEFAULT_ARRIVALS
    positive = None if table.label is None else positive_of(policy.certificate)
    problem = RoutingProblem.from_table(
        table, policy.routers, table.label is None, arrivals=arrivals, positive=positive
    )
    # Only positive rows gain; their mean gain is the recall.
    most = 1.0 if problem.detection is None else problem.detection.share or 1.0
    points = frontier(problem.with_early_deferral(policy.defer_below, policy.thresholds))
    confidence = predicted.confidence(policy)

    def stages_of(point: OperatingPoint) -> tuple[bool, ...]:
        runs = running_stages(point.thresholds, policy.defer_below, policy.needs_evidence)
        return tuple(reached_stages(confidence, point.thresholds, policy.defer_below, runs)[0].tolist())

    def row_cost(point: OperatingPoint, which: tuple[bool, ...]) -> float:
        """Cost of the row at the stage costs that belong to the point's own reach shares."""
        there = at_table_costs(replace(policy, thresholds=point.thresholds), table, arrivals)
        return float(predicted.cost(there)[list(which)].sum())

    pieces = []
    for which, group in groupby(points, stages_of):
        same = list(group)
        last = int(np.flatnonzero(which)[-1])
        pieces.append(
            FrontierPiece(
                stage=predicted.stages[last].name,
                answer=int(predicted.predictions[last].answer[0]),
                cost=(row_cost(same[0], which), row_cost(same[-1], which)),
                points=len(same),
                mean_cost=(same[0].cost, same[-1].cost),
                gain=(same[0].gain / most, same[-1].gain / most),
            )
        )
    return pieces
