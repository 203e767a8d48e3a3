"""Prices of stages: the mean cost per row of a cascade as a function of its reach shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.calibration.costs.arrivals import Arrivals
from cascade.calibration.costs.cost_curve import CostCurve

__all__ = ["StagePrices"]

# Most points near 0, where most calls have one row and the curvature is largest.
SHARES = np.unique(np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 192), np.linspace(0.0, 1.0, 193)]))


@dataclass(frozen=True, eq=False)
class StagePrices:
    """For K stages a function g_k of a share in [0, 1], rising from g_k(0) = 0: a table with linear interpolation.

    The mean cost per row of a cascade is sum_k g_k(share_k): a function of the shares only, monotone in each. Shares
    are of work: a row with twice the work of a mean row counts twice.

    Attributes:
        cost: (K, s) float >= 0, g_k at ``SHARES``; proportional to the share for a constant cost per row.
    """

    cost: np.ndarray

    @classmethod
    def of(cls, curves: Sequence[CostCurve | None], arrivals: Arrivals, cost_per_ms: np.ndarray) -> "StagePrices":
        """Tabulates the expected cost of each stage.

        Args:
            curves: K; ``None`` for a stage with a constant cost, whose work is that cost.
            arrivals: of the rows.
            cost_per_ms: (K,) > 0, in the unit of the costs, where there is a curve.
        """
        rows = [
            SHARES if curve is None else np.maximum.accumulate(arrivals.mean_ms(curve, SHARES)) * factor
            for curve, factor in zip(curves, cost_per_ms, strict=True)
        ]
        return cls(np.stack(rows))

    def with_hops(self, hop_cost: np.ndarray) -> "StagePrices":
        """The prices with a further cost (K,) per mean row that reaches a stage."""
        return StagePrices(self.cost + hop_cost[:, None] * SHARES)

    def select(self, stages: Sequence[int]) -> "StagePrices":
        """The prices of some stages."""
        return StagePrices(self.cost[list(stages)])

    def of_stage(self, stage: int, share: np.ndarray | float) -> np.ndarray:
        """g_k.

        Args:
            stage: k.
            share: >= 0, any shape; above 1, which unusual rows may cause, the cost is proportional.

        Returns:
            In the shape of ``share``.
        """
        share = np.asarray(share, dtype=np.float64)
        inside = np.interp(share, SHARES, self.cost[stage])
        return np.asarray(np.where(share > 1, share * self.cost[stage, -1], inside))

    def of_rows(self, work: np.ndarray) -> np.ndarray:
        """(K,) cost of a row with some work (K,) >= 0, maybe inf, if all rows have this work."""
        return np.array([float(self.of_stage(k, each)) if each else 0.0 for k, each in enumerate(work)])

    def total(self, shares: np.ndarray) -> float:
        """Mean cost per row: (K,) shares -> cost."""
        return float(sum(self.of_stage(k, share) for k, share in enumerate(shares)))

    def row_cost(self, work: np.ndarray, reached: np.ndarray) -> np.ndarray:
        """Cost of each row, for means and their errors.

        Args:
            work: (n, K) of each row at each stage.
            reached: (n, K) bool, the stages that it reaches.

        Returns:
            (n,) float; rows differ by their marginal costs, and the mean is the mean cost per row.
        """
        done = np.where(reached, work, 0.0)
        shares = done.mean(axis=0)
        linear = done @ self.tangent(shares)[1]
        return np.asarray(linear + (self.total(shares) - linear.mean()))

    def secant(self, shares: np.ndarray) -> np.ndarray:
        """(K,) mean cost per row that reaches each stage, at (K,) shares; at share 0 that of the smallest share."""
        shares = np.maximum(shares, SHARES[1])
        return np.array([float(self.of_stage(k, share)) / share for k, share in enumerate(shares)])

    def tangent(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear functions that are never below g_k, and close to it at some shares.

        Each is a piece of the least concave function above g_k.

        Args:
            shares: (K,).

        Returns:
            Two arrays (K,), intercepts and slopes: g_k(s) <= intercept_k + slope_k s for every s in [0, 1].
        """
        pieces = [_piece_at(row, hull, share) for row, hull, share in zip(self.cost, self._hulls, shares, strict=True)]
        intercept, slope = np.array(pieces).T
        return intercept, slope

    @cached_property
    def _hulls(self) -> list[list[int]]:
        """Indices into ``SHARES`` of the corners of each g_k's upper convex hull (Andrew's monotone chain)."""
        return [_hull(row.tolist(), SHARES.tolist()) for row in self.cost]


def _hull(cost: list[float], share: list[float]) -> list[int]:
    corners: list[int] = []
    for k in range(len(cost)):
        while len(corners) > 1:
            i, j = corners[-2:]
            if (cost[j] - cost[i]) * (share[k] - share[i]) > (cost[k] - cost[i]) * (share[j] - share[i]):
                break  # j is above the line from i to k
            corners.pop()
        corners.append(k)
    return corners


def _piece_at(cost: np.ndarray, hull: list[int], share: float) -> tuple[float, float]:
    """Intercept and slope of a hull's edge at a share."""
    right = int(np.clip(np.searchsorted(SHARES[hull], share), 1, len(hull) - 1))
    i, j = hull[right - 1], hull[right]
    slope = (cost[j] - cost[i]) / (SHARES[j] - SHARES[i])
    return float(cost[i] - slope * SHARES[i]), float(slope)
