"""A policy with the costs that a score table gives its stages."""

from dataclasses import replace

import numpy as np

from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.evaluation.evaluation import evaluate
from cascade.calibration.policies.policy import Policy
from cascade.calibration.tables.score_table import ScoreTable
from cascade.calibration.tables.stage_costs import stage_costs
from cascade.routers import Router

__all__ = ["at_table_costs", "table_policy"]


def table_policy(
    table: ScoreTable,
    routers: tuple[Router, ...],
    thresholds: np.ndarray,
    arrivals: Arrivals = DEFAULT_ARRIVALS,
    defer_below: np.ndarray | None = None,
    abstain_below: float = 0.0,
) -> Policy:
    """A policy of a table's stages, without a certificate.

    Args:
        table: n rows, K stages.
        routers: K.
        thresholds: (K - 1,).
        arrivals: how many rows come together, where the table has cost curves.
        defer_below: (K - 1,); by default no row is deferred early.
        abstain_below: of the last stage.
    """
    policy = Policy(
        tuple(map(str, table.stage)),
        routers,
        thresholds,
        cost_unit=table.cost_unit,
        defer_below=np.zeros(0) if defer_below is None else defer_below,
        abstain_below=abstain_below,
        curves=table.curves if table.has_curves else (),
        cost_per_ms=np.zeros(0) if table.cost_per_ms is None else table.cost_per_ms,
        arrivals=arrivals if table.has_curves else None,
    )
    return at_table_costs(policy, table, arrivals)


def at_table_costs(policy: Policy, table: ScoreTable, arrivals: Arrivals) -> Policy:
    """The policy with the mean costs of its stages on a table, at the reach shares of its thresholds there."""
    return replace(policy, **stage_costs(table, arrivals, evaluate(table, policy).reached_share))
