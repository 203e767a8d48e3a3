"""The load of each stage under a policy."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy, ScoreTable
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.errors import ScoreTableError
from cascade.routers import reached_stages

__all__ = ["StageLoad"]


@dataclass(frozen=True, eq=False)
class StageLoad:
    """The load of each of K stages under a policy.

    Attributes:
        stage: K names.
        reach: (K,) in [0, 1], share of all rows that reach the stage or pass it on their way to the last one; 1 for
            the first stage, and never more than for the stage before.
        cost_ms: (K,) >= 0, mean time per such row at the stage, in milliseconds.
    """

    stage: tuple[str, ...]
    reach: np.ndarray
    cost_ms: np.ndarray

    @classmethod
    def measure(cls, table: ScoreTable, policy: Policy, arrivals: Arrivals | None = None) -> "StageLoad":
        """Replays a policy on a score table whose costs are times.

        Args:
            table: of the policy's stages.
            policy: the operating point.
            arrivals: how many rows come together, if the table has cost curves; by default the policy's own.

        Raises:
            ScoreTableError: the table is of other stages, or its costs are not in milliseconds.
        """
        if tuple(map(str, table.stage)) != policy.stages:
            raise ScoreTableError(f"the policy is for stages {list(policy.stages)}, the table has {list(table.stage)}")
        if table.cost_unit != "ms":
            raise ScoreTableError(
                f"a plan needs costs in ms; the table's are in {table.cost_unit}; use 'cascade collect --cost time'"
            )
        runs = reached_stages(
            calibrated_confidence(table, policy.routers), policy.thresholds, policy.defer_below, policy.runs
        )
        # A row that is deferred early travels through the segments in between all the same.
        reached = np.logical_or.accumulate(runs[:, ::-1], axis=1)[:, ::-1]
        rows = reached.sum(axis=0)
        # Rows of a dynamic stage differ in cost, and the rows that reach a stage are not a random sample.
        shares = np.where(runs, table.work, 0.0).mean(axis=0)
        prices = table.prices(arrivals or policy.arrivals or DEFAULT_ARRIVALS)
        if prices is None:
            per_row, alone = shares, table.work.mean(axis=0)
        else:
            per_row = np.array([float(prices.of_stage(k, share)) for k, share in enumerate(shares)])
            alone = prices.secant(shares) * table.work.mean(axis=0)
        reach = rows / len(table)
        return cls(policy.stages, reach, np.where(rows > 0, per_row / np.maximum(reach, 1 / len(table)), alone))

    @property
    def per_row_ms(self) -> np.ndarray:
        """(K,) mean time of the stage per row of the cascade, in milliseconds."""
        return np.asarray(self.reach * self.cost_ms)
