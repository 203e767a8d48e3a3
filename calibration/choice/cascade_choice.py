"""The result of a search over the cascades of a pool, judged on rows that had no part in it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cascade.calibration.calibrators import Identity
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.choice.exclusion import Exclusion
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.evaluation.table_policy import table_policy
from cascade.calibration.policies.policy import Policy
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import Router

__all__ = ["Alternative", "CascadeChoice", "ChosenCascade", "Comparison", "Interval"]

ALTERNATIVES = ("full_ladder", "best_single", "best_several", "best_shorter")

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True, eq=False)
class ChosenCascade:
    """A cascade of some models of a pool: thresholds from the rows that chose it, figures from the other rows.

    Attributes:
        stages: names, in order; one name is one model alone, no cascade.
        thresholds: (K - 1,), on the confidences of the table.
        gain: mean accuracy (or agreement with the pool's last model), in [0, 1].
        gain_interval: exact binomial interval.
        mean_cost: mean cost per row, hops included.
        mean_cost_interval: percentile bootstrap.
        stage_share: (K,) share of the rows that each stage answered.
        last_stage_cost: mean cost per row of the last stage alone.
        worst_cost: cost of a row that runs through all stages, each at its highest cost.
        reaches_target: whether the target is reached on these rows too.
        chosen_gain: ``gain`` on the rows that chose, which is optimistic.
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
        policy = table_policy(part, (Router(None, Identity()),) * part.stages, self.thresholds, arrivals)
        held_out = {"gain": self.gain, "mean_cost": self.mean_cost}
        return replace(policy, certificate={"guarantee": "none", "held_out": held_out})


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
    """Another cascade, and the best choice compared with it.

    Attributes:
        cascade: the alternative.
        comparison: of the best choice (first) with it (second).
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
        gain: "accuracy", "agreement" or "recall".
        models: M names, as in the table.
        cost_unit: unit of all costs.
        hop_cost: cost of every stage after the first that a row reaches.
        method: what was screened: "all orders", or "local search" from the best pairs.
        candidates: number of cascades screened.
        choosing_rows: number of rows that chose.
        judging_rows: number of rows that the figures come from.
        choices: the best ones on the rows that chose, best first; each of other models or in another order.
        full_ladder: all models in the order of the table, each of which runs; ``None`` if they cannot be used.
        why_no_ladder: the reason; empty if they can be used.
        best_single: the best model alone; ``None`` if none reaches the target.
        best_several: the best cascade of at least two models, all of which answer rows; ``None`` if none was found.
        best_shorter: where the best choice has three stages or more, the best cascade of fewer.
        arrivals: that the costs are predicted for; ``None`` where costs are constants per row.
        deadline: largest cost of a row; ``None`` without one.
        left_out: the reason for each model outside the best choice.
        with_model: for each model outside the best choice the best cascade found in which it answers rows.
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
