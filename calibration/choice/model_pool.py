"""A pool of models, from which cascades are made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.detection import Detection
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["ModelPool"]


@dataclass(frozen=True, eq=False)
class ModelPool:
    """Predictions of M models on n rows, each alone.

    Attributes:
        confidence: (n, M) float in [0, 1].
        gain: (n, M) float, 1 where a model is right (or agrees with the last one), else 0.
        work: (n, M) float >= 0, work of a model for a row; without ``prices`` its cost.
        worst_cost: (M,) float, highest cost of a model on any row, if all rows reach it; inf without a declared bound.
        hop_cost: cost >= 0 of sending a row to the next stage.
        prices: mean cost as a function of the reach shares; ``None`` where costs are constants per row.
        detection: where the gain is of positive rows only, which rows those are; ``None`` for any other gain.
    """

    confidence: np.ndarray
    gain: np.ndarray
    work: np.ndarray
    worst_cost: np.ndarray
    hop_cost: float = 0.0
    prices: StagePrices | None = None
    detection: Detection | None = None

    @classmethod
    def of(
        cls,
        table: ScoreTable,
        agreement: bool,
        hop_cost: float = 0.0,
        confidence: np.ndarray | None = None,
        arrivals: Arrivals = DEFAULT_ARRIVALS,
        positive: int | None = None,
    ) -> "ModelPool":
        """The stages of a score table as a pool.

        Args:
            table: of n rows and M stages.
            agreement: whether the gain is agreement with the last stage instead of accuracy.
            hop_cost: in the table's unit.
            confidence: (n, M) calibrated; by default the table's confidences as they are.
            arrivals: how many rows come together, where the table has cost curves.
            positive: a class; the gain is then of rows with this label that are answered as this class.

        Raises:
            ScoreTableError: the gain needs labels, and the table has none.
        """
        detection = None if positive is None else Detection.of(table, positive)
        gain = detection.gain if detection else (table.agrees if agreement else table.correct).astype(np.float64)
        if confidence is None:
            # In float64 and at most 1, as from a router.
            confidence = np.clip(table.confidence.astype(np.float64), 0.0, 1.0)
        prices, highest = table.prices(arrivals), table.highest_work
        worst = highest if prices is None else prices.of_rows(highest)
        return cls(confidence, gain, table.work, worst, hop_cost, prices, detection)

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def models(self) -> int:
        """M."""
        return len(self.gain[0])

    @property
    def cost(self) -> np.ndarray:
        """(n, M) cost of a model on a row, if all rows reach it."""
        return self.work if self.prices is None else self.work * self.prices.secant(np.ones(self.models))

    def price(self, model: int, share: np.ndarray) -> np.ndarray:
        """Mean cost per row of a model from its mean work per row."""
        return share if self.prices is None else self.prices.of_stage(model, share)

    def take(self, rows: np.ndarray) -> "ModelPool":
        """The pool on some rows; the worst cost stays that of all rows.

        Args:
            rows: (m,) int indices, or (n,) bool.
        """
        return replace(
            self,
            confidence=self.confidence[rows],
            gain=self.gain[rows],
            work=self.work[rows],
            detection=None if self.detection is None else self.detection.take(rows),
        )

    @property
    def most_gain(self) -> float:
        """Mean gain of a cascade that gains on every row where it can: the share of positive rows, or 1."""
        return 1.0 if self.detection is None else self.detection.share

    def problem(self, stages: Sequence[int]) -> RoutingProblem:
        """The search problem of a cascade of some models in the given order, hops included.

        Args:
            stages: indices of models; the last one answers every row that reaches it.
        """
        columns = list(stages)
        confidence, gain, work = self.confidence[:, columns[:-1]], self.gain[:, columns], self.work[:, columns]
        hops = self.hop_cost * (np.arange(len(columns)) > 0)
        prices = None if self.prices is None else self.prices.select(columns).with_hops(hops)
        work = work + hops if prices is None else work
        problem = RoutingProblem.priced(confidence, gain, work, prices, optional=False)
        return problem if self.detection is None else replace(problem, detection=self.detection.select(columns))

    def halves(self, seed: int) -> tuple["ModelPool", "ModelPool"]:
        """Two random halves of the rows: one chooses, one judges (the same size or one row less).

        Args:
            seed: of the split.
        """
        first, second = np.array_split(np.random.default_rng(seed).permutation(len(self)), 2)
        return self.take(first), self.take(second)

    def longest(self, stages: Sequence[int]) -> float:
        """Cost of a row that runs through all stages, each at its highest cost."""
        return float(self.worst_cost[list(stages)].sum()) + self.hop_cost * (len(stages) - 1)
