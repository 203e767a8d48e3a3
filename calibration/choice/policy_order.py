"""The best order of the stages of a policy, each with its own calibrator and threshold."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cascade.calibration.choice.cascade_choice import Alternative, ChosenCascade
from cascade.calibration.choice.cascade_judge import CascadeJudge
from cascade.calibration.choice.idk_order import optimal_order
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.choice.refinement import Candidate
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.policies.policy import Policy
from cascade.calibration.search.best_thresholds import Target
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import InfeasibleTarget, PolicyError
from cascade.routers import accepted

__all__ = ["PolicyOrder", "order_policy"]


@dataclass(frozen=True, eq=False)
class PolicyOrder:
    """A policy whose stages were selected and reordered, judged on rows that had no part in it.

    Attributes:
        policy: the new one; its last stage is that of the given one.
        gain: "accuracy", or "agreement" without labels.
        best: figures of the new policy.
        given: figures of the given policy, and the new one compared with it.
        choosing_rows: number of rows that chose the order.
        judging_rows: number of rows that the figures come from.
    """

    policy: Policy
    gain: str
    best: ChosenCascade
    given: Alternative
    choosing_rows: int
    judging_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "policy": self.policy.to_dict(),
            "gain": self.gain,
            "best": self.best.to_dict(),
            "given": self.given.to_dict(),
            "choosing_rows": self.choosing_rows,
            "judging_rows": self.judging_rows,
        }


def order_policy(
    table: ScoreTable,
    policy: Policy,
    *,
    hop_cost: float = 0.0,
    deadline: float | None = None,
    arrivals: Arrivals | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> PolicyOrder:
    """Selects and orders the stages of a policy for the least mean cost (:func:`optimal_order`).

    Thresholds stay as they are, so a stage accepts the same rows at every place. The order decides which of several
    accepting stages answers, so the accuracy may change slightly.

    Args:
        table: n rows, the stages of the policy in its order.
        policy: K stages.
        hop_cost: cost of every stage after the first that a row reaches.
        deadline: largest cost of a row that runs through all stages, each at its highest cost in the table.
        arrivals: how many rows come together, where the table has cost curves; by default as the policy was chosen.
        seed: of the split of the rows into those that choose and those that judge, and of the resamples.
        level: of the intervals, in (0, 1).

    Raises:
        ValueError: there are too many stages.
        PolicyError: the policy is of other stages, or defers rows early.
        InfeasibleTarget: the last stage alone misses the deadline, or there is only one row.
    """
    if tuple(map(str, table.stage)) != policy.stages:
        raise PolicyError(f"the policy is for stages {list(policy.stages)}, the score table has {table.stage.tolist()}")
    if policy.defers_early:
        raise PolicyError(
            "the stages of a policy that defers rows early (defer_below) cannot be ordered; "
            "calibrate one without, or keep the order"
        )
    if len(table) < 2:
        raise InfeasibleTarget("one row cannot both choose an order and judge it; more rows are needed")
    agreement = table.label is None
    arrivals = arrivals or policy.arrivals or DEFAULT_ARRIVALS
    pool = ModelPool.of(table, agreement, hop_cost, calibrated_confidence(table, policy.routers), arrivals)
    choosing, judging = pool.halves(seed)
    accepts = [accepted(choosing.confidence[:, k], threshold) for k, threshold in enumerate(policy.thresholds)]
    found = optimal_order(
        np.stack(accepts, axis=1) if accepts else np.zeros((len(choosing), 0), dtype=bool),
        choosing.work,
        hop_cost=hop_cost,
        deadline=deadline,
        worst_cost=pool.worst_cost,
        price=choosing.price,
    )
    given = tuple(range(pool.models))
    candidates = [
        Candidate.of(choosing, stages, policy.thresholds[list(stages[:-1])])
        for stages in dict.fromkeys([found.order, given])
    ]
    judge = CascadeJudge(judging, policy.stages, Target(most_cost=np.inf), candidates, level, seed)
    certificate = {"guarantee": "none", "ordered_from": policy.version}
    return PolicyOrder(
        policy=replace(policy.select(found.order), certificate=certificate),
        gain="agreement" if agreement else "accuracy",
        best=judge.cascade(found.order),
        given=judge.alternative(found.order, given),
        choosing_rows=len(choosing),
        judging_rows=len(judging),
    )
