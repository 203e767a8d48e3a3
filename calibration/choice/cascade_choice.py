"""What a search over the cascades of a pool found, judged on rows that had no part in it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cascade.calibration.calibrators import Identity
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.choice.exclusion import Exclusion
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.evaluation.evaluation import evaluate
from cascade.calibration.policies.policy import Policy
from cascade.calibration.tables.score_table import ScoreTable
from cascade.calibration.tables.stage_costs import stage_costs
from cascade.routers import Router

__all__ = ["Alternative", "CascadeChoice", "ChosenCascade", "Comparison", "Interval"]

ALTERNATIVES = ("full_ladder", "best_single", "best_several", "best_shorter")

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, eq=False)
class ChosenCascade:
    """A cascade of some models of a pool, with thresholds from the rows that chose, and figures from the others.

    Attributes:
        stages: names, in their order; one name is one model alone, no cascade.
        thresholds: (K - 1,), on the confidences of the table.
        gain: mean accuracy (or agreement with the pool's last model), in [0, 1].
        gain_interval: exact binomial interval.
        mean_cost: mean cost of a row, hops included.
        mean_cost_interval: percentile bootstrap.
        stage_share: (K,) share of the rows that each stage answered.
        last_stage_cost: mean cost of a row if the last stage alone answered it.
        worst_cost: cost of a row that runs through all stages, each at its worst.
        reaches_target: whether the target is reached on these rows too.
        chosen_gain: ``gain`` on the rows that chose, which flatter.
        chosen_cost: ``mean_cost`` on the rows that chose.
    """

    stages: tuple[str, ...]
    thresholds: np.ndarray
    gain: float
    gain_interval: Interval
    mean_cost: float
    mean_cost_interval: Interval
    stage_share: np.ndarray
    last_stage_cost: float
    worst_cost: float
    reaches_target: bool
    chosen_gain: float
    chosen_cost: float

    def __repr__(self) -> str:
        return f"ChosenCascade({' -> '.join(self.stages)}: gain {self.gain:.4g}, mean cost {self.mean_cost:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    def policy(self, table: ScoreTable, arrivals: Arrivals = DEFAULT_ARRIVALS) -> Policy:
        """The policy for ``table.select(self.stages)``: no guarantee, and the costs of the models without hops.

        Args:
            table: of the pool.
            arrivals: how many rows come together, where the table has cost curves.
        """
        part = table.select(self.stages)
        routers = (Router(None, Identity()),) * part.stages
        certificate = {"guarantee": "none", "held_out": {"gain": self.gain, "mean_cost": self.mean_cost}}
        policy = Policy(
            self.stages,
            routers,
            self.thresholds,
            cost_unit=table.cost_unit,
            certificate=certificate,
            curves=part.curves if part.has_curves else (),
            cost_per_ms=np.zeros(0) if part.cost_per_ms is None else part.cost_per_ms,
            arrivals=arrivals if part.has_curves else None,
        )
        return replace(policy, **stage_costs(part, arrivals, evaluate(part, policy).reached_share))


@dataclass(frozen=True)
class Comparison:
    """Two cascades on the same rows; the intervals are percentile bootstraps over paired rows.

    Attributes:
        cost_saving: 1 - cost of the first / cost of the second; negative where the first costs more.
        cost_saving_interval: of it.
        gain_difference: gain of the first less that of the second.
        gain_difference_interval: of it.
    """

    cost_saving: float
    cost_saving_interval: Interval
    gain_difference: float
    gain_difference_interval: Interval


@dataclass(frozen=True, eq=False)
class Alternative:
    """Something else that one could do, and what the best choice is worth against it.

    Attributes:
        cascade: the alternative.
        comparison: the best choice (first) against it (second).
    """

    cascade: ChosenCascade
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"cascade": self.cascade.to_dict(), "comparison": vars(self.comparison)}


@dataclass(frozen=True, eq=False)
class CascadeChoice:
    """The best cascades of a pool for a target.

    Attributes:
        goal: the target.
        gain: what is gained: "accuracy" or "agreement".
        models: M names, as in the table.
        cost_unit: unit of all costs.
        hop_cost: cost of every stage after the first that a row reaches.
        method: what was looked at: "all orders", "all subsets" (by rising cost, the best improved) or "greedy".
        candidates: number of cascades looked at.
        choosing_rows: number of rows that chose.
        judging_rows: number of rows that the figures come from.
        choices: the best ones as the rows that chose see them, best first; each of other models or in another order.
        full_ladder: all models in the order of the table; ``None`` if they cannot be used.
        why_no_ladder: why they cannot; empty if they can.
        best_single: the best model alone; ``None`` if none reaches the target.
        best_several: the best cascade of at least two models, all of which answer rows; ``None`` if none was found.
        best_shorter: where the best choice has three stages or more, the best cascade of fewer.
        arrivals: the rows together that the costs are for; ``None`` where costs are constants per row.
        deadline: most that a row may cost; ``None`` without one.
        left_out: why each model outside the best choice is.
        with_model: for models outside the best choice the best cascade found in which they answer rows.
        level: of all intervals.
    """

    goal: Goal
    gain: str
    models: tuple[str, ...]
    cost_unit: str
    hop_cost: float
    method: str
    candidates: int
    choosing_rows: int
    judging_rows: int
    choices: tuple[ChosenCascade, ...]
    full_ladder: Alternative | None
    why_no_ladder: str
    best_single: Alternative | None
    best_several: Alternative | None
    best_shorter: Alternative | None
    arrivals: Arrivals | None
    deadline: float | None
    left_out: dict[str, Exclusion]
    with_model: dict[str, Alternative]
    level: float

    @property
    def best(self) -> ChosenCascade:
        """The first of the choices."""
        return self.choices[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        alternatives = {name: getattr(self, name) for name in ALTERNATIVES}
        return {
            **vars(self),
            "goal": {self.goal.name: self.goal.value},
            "arrivals": None if self.arrivals is None else str(self.arrivals),
            "choices": [choice.to_dict() for choice in self.choices],
            **{name: None if value is None else value.to_dict() for name, value in alternatives.items()},
            "left_out": {name: vars(value) for name, value in self.left_out.items()},
            "with_model": {name: value.to_dict() for name, value in self.with_model.items()},
        }
