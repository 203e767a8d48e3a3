"""A cost model: the time of a batch against its size."""

from dataclasses import dataclass

import numpy as np

__all__ = ["CostModel"]


@dataclass(frozen=True)
class CostModel:
    """Time of a batch of n rows: ``fixed_ms + n * row_ms``.

    Attributes:
        fixed_ms: >= 0, of any batch, however small.
        row_ms: >= 0, of every row in it.
    """

    fixed_ms: float
    row_ms: float

    @classmethod
    def fit(cls, batch_rows: np.ndarray, batch_ms: np.ndarray) -> "CostModel":
        """Fits by non-negative least squares of the relative error, so that small batches count as much as large ones.

        Args:
            batch_rows: (m,) int >= 1, m >= 1.
            batch_ms: (m,) > 0, measured times.
        """
        from scipy.optimize import nnls

        rows, times = np.asarray(batch_rows, dtype=np.float64), np.asarray(batch_ms, dtype=np.float64)
        (fixed, row), _ = nnls(np.stack([1 / times, rows / times], axis=1), np.ones(len(rows)))
        return cls(float(fixed), float(row))

    def batch_ms(self, rows: np.ndarray | int) -> np.ndarray:
        """Time of a batch of some rows."""
        return np.asarray(self.fixed_ms + np.asarray(rows) * self.row_ms)

    def row_cost(self, rows: np.ndarray | int) -> np.ndarray:
        """Time a row, in ms, in a batch of some rows."""
        return np.asarray(self.batch_ms(rows) / rows)
