"""Why a row got its answer: what every stage says of it, and which of them a policy asks and believes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from cascade.calibration import OperatingPoint, Policy, ScoreTable, frontier
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.evaluation.table_policy import at_table_costs
from cascade.calibration.routing_problem import RoutingProblem
from cascade.cascade import check_policy
from cascade.errors import ScoreTableError
from cascade.prediction import Prediction
from cascade.routers import abstained, reached_stages, running_stages
from cascade.stage import Stage

__all__ = ["Explanation", "FrontierPiece", "StageWord", "explain"]


@dataclass(frozen=True)
class StageWord:
    """What one of K stages says of the row.

    Attributes:
        stage: its name.
        asked: whether the policy asks it; the others were asked here all the same.
        answers: whether the row gets its answer.
        answer: the class.
        raw_confidence: in [0, 1], before calibration.
        confidence: in [0, 1], calibrated (or a head's).
        threshold: that the confidence must reach; ``None`` for a last stage that answers everything.
        defer_below: a lower confidence sends the row straight to the last stage; ``None`` where none does.
        cost: of asking it.
        running_cost: of all stages that the policy has asked by then; ``None`` if it does not ask this one.
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
        words: K, in the order of the stages.
        policy_version: of the policy.
        cost_unit: of all costs.
        abstained: whether the answer is only the last stage's best guess, and the row is left to a person.
    """

    words: tuple[StageWord, ...]
    policy_version: str
    cost_unit: str
    abstained: bool

    @property
    def last_word(self) -> StageWord:
        """Of the stage that answers."""
        return next(word for word in self.words if word.answers)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "policy_version": self.policy_version,
            "cost_unit": self.cost_unit,
            "stage": self.last_word.stage,
            "answer": self.last_word.answer,
            "confidence": self.last_word.confidence,
            "cost": self.last_word.running_cost,
            "abstained": self.abstained,
            "stages": [vars(word) for word in self.words],
        }


@dataclass(frozen=True)
class FrontierPiece:
    """Neighbours on a frontier under which the same stage answers the row.

    Attributes:
        stage: that answers.
        answer: of this stage.
        cost: of the row at the cheapest and at the most expensive of them.
        points: how many operating points.
        mean_cost: of a row of the score table, at the cheapest and at the most expensive of them.
        gain: mean accuracy on the score table (without labels: agreement with the last stage), at both.
    """

    stage: str
    answer: int
    cost: tuple[float, float]
    points: int
    mean_cost: tuple[float, float]
    gain: tuple[float, float]


@dataclass(frozen=True)
class _AskedRow:
    """A row that every stage was asked about, once.

    Attributes:
        stages: K stages.
        predictions: K, of one row each.
    """

    stages: Sequence[Stage]
    predictions: Sequence[Prediction]

    def confidence(self, policy: Policy) -> np.ndarray:
        """(1, K) as the policy's routers give it when every stage is asked."""
        evidence, columns = None, []
        for stage, prediction, router in zip(self.stages, self.predictions, policy.routers, strict=True):
            if policy.needs_evidence:
                said = stage.evidence(prediction, policy.needs_probabilities)
                evidence = said if evidence is None else np.concatenate([evidence, said], axis=1)
            columns.append(stage.confidence(prediction, router, evidence))
        return np.stack(columns, axis=1)

    def cost(self, policy: Policy) -> np.ndarray:
        """(K,) of asking each stage."""
        return np.array([policy.row_cost(k, prediction)[0] for k, prediction in enumerate(self.predictions)])


def explain(
    stages: Sequence[Stage],
    row: np.ndarray,
    policies: Sequence[Policy],
    table: ScoreTable | None = None,
) -> tuple[list[Explanation], list[FrontierPiece]]:
    """Asks all stages about a row, and tells its way under each policy, and along the frontier of a score table.

    All stages are asked, those too that a policy does not ask. Which stage answers, what, and at what cost is what the
    served cascade would tell. So is the confidence, but for one case: a head of the last stage looks at what all
    earlier stages say, and a served row that is deferred early has less to show.

    Args:
        stages: K stages.
        row: (1, ...), of the right shape and dtype.
        policies: one or more, of these stages.
        table: its frontier, with the first policy's routers and early-deferral thresholds, gives the other operating
            points.

    Returns:
        An explanation a policy, and the pieces of the frontier, cheapest first; none without a table.

    Raises:
        PolicyError: a policy is of other stages, or has a head that looks at what a model does not give.
        ScoreTableError: the table is of other stages, or its scores are not enough for the first policy's routers.
    """
    names = [stage.name for stage in stages]
    asked = _AskedRow(stages, [stage.predict(row) for stage in stages])
    explanations = [_explanation(asked, check_policy(policy, names)) for policy in policies]
    if table is None:
        return explanations, []
    if table.stage.tolist() != names:
        raise ScoreTableError(f"the score table is of the stages {table.stage.tolist()}, the config has {names}")
    return explanations, _pieces(asked, policies[0], table)


def _explanation(asked: _AskedRow, policy: Policy) -> Explanation:
    confidence, cost = asked.confidence(policy), asked.cost(policy)
    looks = reached_stages(confidence, policy.thresholds, policy.defer_below, policy.runs)[0]
    last = int(np.flatnonzero(looks)[-1])
    running = np.cumsum(np.where(looks, cost, 0.0))
    thresholds = [*policy.thresholds.tolist(), policy.abstain_below if policy.abstains else None]
    words = [
        StageWord(
            stage=stage.name,
            asked=bool(looks[k]),
            answers=k == last,
            answer=int(prediction.answer[0]),
            raw_confidence=float(stage.raw_confidence(prediction)[0]),
            confidence=float(confidence[0, k]),
            threshold=thresholds[k],
            defer_below=float(policy.defer_below[k]) if policy.defer_below[k : k + 1].any() else None,
            cost=float(cost[k]),
            running_cost=float(running[k]) if looks[k] else None,
        )
        for k, (stage, prediction) in enumerate(zip(asked.stages, asked.predictions, strict=True))
    ]
    abstains = bool(looks[-1] and abstained(confidence[:, -1], policy.abstain_below)[0])
    return Explanation(tuple(words), policy.version, policy.cost_unit, abstains)


def _pieces(asked: _AskedRow, policy: Policy, table: ScoreTable) -> list[FrontierPiece]:
    arrivals = policy.arrivals or DEFAULT_ARRIVALS
    problem = RoutingProblem.from_table(table, policy.routers, table.label is None, arrivals=arrivals)
    points = frontier(problem.with_early_deferral(policy.defer_below, policy.thresholds))
    confidence = asked.confidence(policy)

    def looks(point: OperatingPoint) -> tuple[bool, ...]:
        runs = running_stages(point.thresholds, policy.defer_below, policy.needs_evidence)
        return tuple(reached_stages(confidence, point.thresholds, policy.defer_below, runs)[0].tolist())

    def row_cost(point: OperatingPoint, which: tuple[bool, ...]) -> float:
        """A stage costs a row what it does at the shares of rows that reach the stages there."""
        there = at_table_costs(replace(policy, thresholds=point.thresholds), table, arrivals)
        return float(asked.cost(there)[list(which)].sum())

    pieces = []
    for which, group in groupby(points, looks):
        same = list(group)
        last = int(np.flatnonzero(which)[-1])
        pieces.append(
            FrontierPiece(
                stage=asked.stages[last].name,
                answer=int(asked.predictions[last].answer[0]),
                cost=(row_cost(same[0], which), row_cost(same[-1], which)),
                points=len(same),
                mean_cost=(same[0].cost, same[-1].cost),
                gain=(same[0].gain, same[-1].gain),
            )
        )
    return pieces
