"""What a row costs at each stage of a policy: constants, as a policy holds them."""

from typing import TypedDict

import numpy as np

from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["StageCosts", "stage_costs"]


class StageCosts(TypedDict):
    """Two entries of a policy.

    Attributes:
        cost: (K,) mean cost of a row that comes to each stage.
        cost_per_mflop: (K,) of a million operations, where models count those of every row; else 0.
    """

    cost: np.ndarray
    cost_per_mflop: np.ndarray


def stage_costs(table: ScoreTable, arrivals: Arrivals, reached_share: np.ndarray) -> StageCosts:
    """The constants that are right, in the mean, where some shares of the work reach the stages.

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
