"""A cost curve: the time of a call against the rows in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["CostCurve", "curve_arrays"]

EFFICIENT = 1.03
"""A size is efficient if its cost per row is at most this times that of the best size."""

LEAST_MS = 1e-6  # a stage faster than the resolution of the clock

LEAST_FIXED_MS = 1.0
"""Cost per call from which gathering is worth a turn of the event loop, and that a row is answered later."""


@dataclass(frozen=True, eq=False)
class CostCurve:
    """Time of a call of one stage on one machine, measured at some sizes.

    The time is interpolated between two sizes, and proportional to the rows above the largest. It never falls: a
    measured time below that of a smaller size is noise, which isotonic regression removes (Barlow et al., Statistical
    Inference under Order Restrictions, 1972, section 1.2).

    Attributes:
        rows: (m,) int >= 1, rising, m >= 1.
        ms: (m,) float > 0, median time of a call; never falling.
        spread: (m,) float >= 0, interquartile range of the measured times over their median.
    """

    rows: np.ndarray
    ms: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, ms: np.ndarray, spread: np.ndarray | None = None) -> "CostCurve":
        """Makes measured times monotone.

        Args:
            rows: (m,) int >= 1, rising; sizes.
            ms: (m,) float >= 0, median times.
            spread: (m,) float >= 0; by default zeros.
        """
        from sklearn.isotonic import IsotonicRegression

        rows, ms = np.asarray(rows, dtype=np.int64), np.maximum(np.asarray(ms, dtype=np.float64), LEAST_MS)
        # Relative errors, so that small calls weigh as much as large ones.
        fitted = np.exp(IsotonicRegression().fit_transform(rows, np.log(ms)))
        return cls(rows, fitted, np.zeros(len(rows)) if spread is None else np.asarray(spread, dtype=np.float64))

    def __repr__(self) -> str:
        return f"CostCurve({self.fixed_ms:.3g} ms + {self.row_ms:.3g} ms per row, best at {self.best_rows} rows)"

    @cached_property
    def best_rows(self) -> int:
        """The smallest efficient size."""
        row_ms = self.ms / self.rows
        return int(self.rows[np.argmax(row_ms <= EFFICIENT * row_ms.min())])

    @cached_property
    def _summary(self) -> tuple[float, float]:
        from scipy.optimize import nnls

        (fixed, row), _ = nnls(np.stack([1 / self.ms, self.rows / self.ms], axis=1), np.ones(len(self.rows)))
        return float(fixed), float(row)

    @property
    def fixed_ms(self) -> float:
        """Fixed time per call, by non-negative least squares of the relative error."""
        return self._summary[0]

    @property
    def row_ms(self) -> float:
        """Time per further row, by the same fit."""
        return self._summary[1]

    @property
    def gathers(self) -> bool:
        """Whether rows of several micro-batches are worth gathering for a call."""
        return self.fixed_ms >= LEAST_FIXED_MS and self.best_rows > 1

    def call_ms(self, rows: np.ndarray | float) -> np.ndarray:
        """Time of one call.

        Args:
            rows: >= 0, any shape; may be fractions.

        Returns:
            ms, in the shape of ``rows``; 0 for no rows, proportional below one row.
        """
        rows = np.asarray(rows, dtype=np.float64)
        inside = np.interp(rows, np.append(0.0, self.rows), np.append(0.0, self.ms))
        return np.asarray(np.where(rows > self.rows[-1], rows * (self.ms[-1] / self.rows[-1]), inside))

    def calls(self, rows: int) -> int:
        """The best number of calls of equal size for this many rows.

        Args:
            rows: >= 1.
        """
        if rows <= self.best_rows:
            return 1
        fewest = rows // self.best_rows
        options = (fewest, fewest + 1)
        return min(options, key=lambda calls: calls * float(self.call_ms(rows / calls)))

    def split_ms(self, rows: np.ndarray | float) -> np.ndarray:
        """Time of this many rows, split into calls as :meth:`calls` does.

        Args:
            rows: >= 0, any shape.

        Returns:
            ms, in the shape of ``rows``; never falling.
        """
        rows = np.asarray(rows, dtype=np.float64)
        fewest = np.maximum(np.floor(rows / self.best_rows), 1.0)
        options = [calls * self.call_ms(rows / calls) for calls in (fewest, fewest + 1)]
        return np.asarray(np.where(rows <= self.best_rows, options[0], np.minimum(*options)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"rows": self.rows.tolist(), "ms": self.ms.tolist(), "spread": self.spread.tolist()}

    def problem(self) -> str | None:
        """What is wrong with the curve, ``None`` if nothing is."""
        shapes = {self.rows.shape, self.ms.shape, self.spread.shape}
        if len(shapes) != 1 or self.rows.ndim != 1 or not self.rows.size:
            return f"needs as many times and spreads as sizes, at least one; got shapes {sorted(shapes)}"
        if not np.isfinite([self.rows, self.ms, self.spread]).all():
            return "must hold finite numbers"
        if (self.rows < 1).any() or (np.diff(self.rows) <= 0).any() or (self.rows % 1 != 0).any():
            return f"needs rising whole numbers of rows, at least 1; got {self.rows.tolist()}"
        if (self.ms <= 0).any() or (np.diff(self.ms) < 0).any() or (self.spread < 0).any():
            return f"needs times above 0 that never fall, and spreads of at least 0; got {self.ms.tolist()}"
        return None


def curve_arrays(curves: Sequence[CostCurve | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves as arrays with a common axis of sizes.

    Args:
        curves: K, at least one of them a curve.

    Returns:
        (m,) int sizes, and (K, m) times and spreads, NaN where a stage was not measured.
    """
    sizes = np.unique(np.concatenate([curve.rows for curve in curves if curve is not None]))
    ms, spread = np.full((2, len(curves), len(sizes)), np.nan)
    for k, curve in enumerate(curves):
        if curve is not None:
            places = np.searchsorted(sizes, curve.rows)
            ms[k, places], spread[k, places] = curve.ms, curve.spread
    return sizes, ms, spread
