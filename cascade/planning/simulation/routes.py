"""The routes of rows: which stages each one reaches, and how much work it is there."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration import Policy, ScoreTable
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.routers import reached_stages

__all__ = ["Routes"]


@dataclass(frozen=True, eq=False)
class Routes:
    """Routes of n rows through K stages.

    Attributes:
        work: (n, K) float >= 0, of each row at each stage over that of a mean row; 0 where it does not run.
        in_order: whether the simulated rows are these in their order, again and again, and not drawn at random.
    """

    work: np.ndarray
    in_order: bool = False

    def __len__(self) -> int:
        return len(self.work)

    @classmethod
    def of_table(cls, table: ScoreTable, policy: Policy) -> "Routes":
        """Replays a policy on a score table of the same stages."""
        reached = reached_stages(
            calibrated_confidence(table, policy.routers), policy.thresholds, policy.defer_below, policy.runs
        )
        return cls(np.where(reached, _relative_work(table), 0.0))

    @classmethod
    def of_shares(cls, reach: np.ndarray, count: int = 10_000) -> "Routes":
        """Rows that reach each stage in given shares; a row that reaches a stage has reached all before it.

        Args:
            reach: (K,) in [0, 1], never rising.
            count: of rows, >= 1.
        """
        place = (np.arange(count) + 0.5) / count
        return cls((place[:, None] < np.asarray(reach)).astype(np.float64))

    @classmethod
    def of_last_stage(cls, table: ScoreTable) -> "Routes":
        """The rows of a score table in a cascade of its last stage alone: (n, 1)."""
        return cls(_relative_work(table)[:, -1:])

    def replayed(self, rows: np.ndarray) -> "Routes":
        """The routes of the rows with these indices, in this order."""
        return Routes(self.work[rows], in_order=True)

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """(count,) int, indices of the rows to simulate: in order, or drawn at random with replacement."""
        if self.in_order:
            return np.arange(count) % len(self.work)
        return np.random.default_rng(seed).integers(len(self.work), size=count)


def _relative_work(table: ScoreTable) -> np.ndarray:
    """(n, K) work of each row over that of the rows that the stage was timed with."""
    timed = np.array([curve is not None for curve in table.curves or [None] * table.stages])
    mean = np.where(timed, 1.0, table.work.mean(axis=0))
    return np.asarray(table.work / np.where(mean > 0, mean, 1.0))
