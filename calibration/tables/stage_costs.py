"""Constant costs per row of the stages of a policy."""

from typing import TypedDict

import numpy as np

from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["StageCosts", "stage_costs"]


class StageCosts(TypedDict):
    """Two entries of a policy.

    Attributes:
        cost: (K,) mean cost per row that reaches each stage.
        cost_per_mflop: (K,) per million operations, where models count the operations of every row; else 0.
    """

    cost: np.ndarray
    cost_per_mflop: np.ndarray


def stage_costs(table: ScoreTable, arrivals: Arrivals, reached_share: np.ndarray) -> StageCosts:
    """The constants that are exact, in the mean, at some reach shares.

    Args:
        table: n rows, K stages.
        arrivals: how many rows come together, where the table has cost curves.
        reached_share: (K,) in [0, 1].
    """
    mean = np.broadcast_to(table.cost, table.prediction.shape).mean(axis=0)
    rate = np.zeros(table.stages) if table.cost_per_mflop is None else table.cost_per_mflop
    prices = table.prices(arrivals)
    if prices is None:
        return {"cost": mean, "cost_per_mflop": rate}
    work = table.work.mean(axis=0)
    cost = prices.secant(reached_share * work) * work
    return {"cost": cost, "cost_per_mflop": rate * np.where(mean > 0, cost / np.where(mean > 0, mean, 1.0), 1.0)}
