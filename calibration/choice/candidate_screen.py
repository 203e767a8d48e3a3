"""The screen: how many cascades compare on a coarse grid of their thresholds.

All cascades that differ only in the last stage are screened together. The rows that the earlier stages defer depend on
the earlier thresholds alone. So one histogram per model over the bins of the earlier confidences, summed along its
axes, gives the gain and the cost of every model as the last stage at every cell of the grid.
"""

from collections.abc import Sequence

import numpy as np

from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.search.best_thresholds import Target

__all__ = ["CandidateScreen", "Stages", "Standing"]

Stages = tuple[int, ...]
"""Models of a pool, in the order of the stages."""

Standing = tuple[float, float]
"""(distance to the target, 0 if it is reached; what is minimised: cost, or negative gain); smaller is better."""

CELLS = 4096
ROUNDING = 1e-9  # means of the same rows, summed in another order, differ by less


class CandidateScreen:
    """Standings of cascades, each computed once.

    Args:
        pool: n rows, M models.
        target: that a cascade must reach.
        deadline: largest cost of a row that runs through all stages; slower cascades have no standing.

    Attributes:
        standings: of all cascades screened so far.
    """

    def __init__(self, pool: ModelPool, target: Target, deadline: float | None = None) -> None:
        self.pool = pool
        self.target = target
        self.deadline = np.inf if deadline is None else deadline
        self.standings: dict[Stages, Standing] = {}
        one = np.ones((len(pool), 1))
        self._weights = np.concatenate([pool.gain, pool.work, one], axis=1)
        self._bins: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
        self._expanded: set[Stages] = set()

    def fits(self, stages: Sequence[int]) -> bool:
        """Whether a cascade meets the deadline."""
        return self.pool.longest(stages) <= self.deadline

    def expand(self, prefix: Stages) -> None:
        """Finds the standings of all cascades that begin with some stages and have one more."""
        if prefix in self._expanded:
            return
        self._expanded.add(prefix)
        last = [m for m in range(self.pool.models) if m not in prefix and self.fits((*prefix, m))]
        if last:
            gain, cost = self._grid(prefix)
            for m in last:
                self.standings[(*prefix, m)] = self._standing(gain[:, m], cost[:, m])

    def standing(self, stages: Stages) -> Standing | None:
        """Of one cascade; ``None`` if it misses the deadline."""
        self.expand(stages[:-1])
        return self.standings.get(stages)

    def ranked(self) -> list[Stages]:
        """All cascades screened so far, best first; of equally good ones the shortest."""
        return sorted(self.standings, key=lambda stages: (self.standings[stages], len(stages), stages))

    def _standing(self, gain: np.ndarray, cost: np.ndarray) -> Standing:
        if self.target.least_gain is not None:
            missed, value = np.maximum(self.target.least_gain - gain, 0.0), cost
        else:
            missed, value = np.maximum(cost / (self.target.most_cost or np.inf) - 1, 0.0), -gain
        least = float(missed.min())
        if least > ROUNDING:
            return least, float(value[missed <= least + ROUNDING].min())
        return 0.0, float(value[missed <= ROUNDING].min())

    def _grid(self, prefix: Stages) -> tuple[np.ndarray, np.ndarray]:
        """Mean gain and cost, (cells, M) each, of the prefix with each model as its last stage.

        Only cells where some row reaches the last stage: in the others the cascade is a shorter one.
        """
        depth, models = len(prefix), self.pool.models
        unsure = self._unsure_sums(prefix)
        shape = unsure.shape[:-1]
        gain, cost = np.zeros(shape), np.zeros(shape)
        for k, model in enumerate(prefix):
            # The last candidate of a stage accepts no row, as if the stage were not there.
            reached = unsure[(slice(None),) * k + (-1,) * (depth - k)]
            left = unsure[(slice(None),) * (k + 1) + (-1,) * (depth - k - 1)]
            answered = reached[..., None, model] - left[..., model]
            gain += answered.reshape(answered.shape + (1,) * (depth - k - 1))
            paid = self._paid(model, reached, hops=k > 0)
            cost += paid.reshape(paid.shape + (1,) * (depth - k))
        reached = unsure[..., -1] > 0
        gains = (gain[..., None] + unsure[..., :models]) / len(self.pool)
        last = [self._paid(model, unsure, hops=depth > 0) for model in range(models)]
        costs = cost[..., None] + np.stack(last, axis=-1)
        return gains[reached].reshape(-1, models), costs[reached].reshape(-1, models)

    def _paid(self, model: int, sums: np.ndarray, hops: bool) -> np.ndarray:
        """Mean cost per row of a model for the rows of some sums of all weights."""
        n = len(self.pool)
        hop_cost = self.pool.hop_cost if hops else 0.0
        return self.pool.price(model, sums[..., self.pool.models + model] / n) + hop_cost * sums[..., -1] / n

    def _unsure_sums(self, prefix: Stages) -> np.ndarray:
        """Sums of all weights over the rows below candidate i_0 of the first stage, i_1 of the second, ..."""
        if not prefix:
            return np.asarray(self._weights.sum(axis=0))
        bins, shape = zip(*(self._binned(model, len(prefix)) for model in prefix), strict=True)
        flat, cells = np.ravel_multi_index(bins, shape), int(np.prod(shape))
        sums = np.stack([np.bincount(flat, weights=w, minlength=cells) for w in self._weights.T], axis=-1)
        sums = sums.reshape(*shape, -1)
        for axis in range(len(shape)):
            # Whole slices at a time: np.cumsum walks along short strided lines, which takes five times as long.
            line = np.moveaxis(sums, axis, 0)
            for i in range(1, len(line)):
                line[i] += line[i - 1]
        return sums

    def _binned(self, model: int, depth: int) -> tuple[np.ndarray, int]:
        """(n,) bins of a model's confidence for a grid of some axes, and the number of bins."""
        key = (model, depth)
        if key not in self._bins:
            column = self.pool.confidence[:, model]
            most = max(2, int(CELLS ** (1 / depth) + ROUNDING))
            distinct = np.unique(column)
            if len(distinct) >= most:
                # Quantiles of all rows, so that each step moves about the same number of them.
                distinct = np.unique(np.quantile(column, np.linspace(0, 1, most - 1), method="nearest"))
            # One more candidate, which accepts no row.
            self._bins[key] = np.searchsorted(distinct, column, "right"), len(distinct) + 1
        return self._bins[key]
