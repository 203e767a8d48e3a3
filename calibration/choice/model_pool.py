"""A pool of models: what cascades can be made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.score_table import ScoreTable

__all__ = ["ModelPool"]


@dataclass(frozen=True, eq=False)
class ModelPool:
    """What M models say on n rows, each of them alone.

    Attributes:
        confidence: (n, M) float in [0, 1].
        gain: (n, M) float, 1 where a model is right (or agrees with the last one), else 0.
        cost: (n, M) float >= 0, cost of running a model on a row.
        worst_cost: (M,) float, highest cost of a model on any row.
        hop_cost: cost >= 0 of sending a row on to the next stage.
    """

    confidence: np.ndarray
    gain: np.ndarray
    cost: np.ndarray
    worst_cost: np.ndarray
    hop_cost: float = 0.0

    @classmethod
    def of(
        cls, table: ScoreTable, agreement: bool, hop_cost: float = 0.0, confidence: np.ndarray | None = None
    ) -> "ModelPool":
        """The stages of a score table as a pool.

        Args:
            table: what the stages said.
            agreement: gain agreement with the last stage instead of accuracy.
            hop_cost: in the table's unit.
            confidence: (n, M) calibrated; by default the table's confidences count as they are.

        Raises:
            ScoreTableError: accuracy is asked for, and the table has no labels.
        """
        gain = table.agrees if agreement else table.correct
        cost = np.broadcast_to(table.cost, table.prediction.shape).astype(np.float64)
        if confidence is None:
            # In float64 and at most 1, as routers give it.
            confidence = np.clip(table.confidence.astype(np.float64), 0.0, 1.0)
        return cls(confidence, gain.astype(np.float64), cost, cost.max(axis=0), hop_cost)

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def models(self) -> int:
        """M."""
        return len(self.worst_cost)

    def take(self, rows: np.ndarray) -> "ModelPool":
        """The pool on some rows; the worst cost stays that of all rows.

        Args:
            rows: (m,) int indices, or (n,) bool.
        """
        return replace(self, confidence=self.confidence[rows], gain=self.gain[rows], cost=self.cost[rows])

    def problem(self, stages: Sequence[int]) -> RoutingProblem:
        """The threshold search for a cascade of some models, in the given order; hops cost.

        Args:
            stages: indices of models, the last one answers everything.
        """
        columns = list(stages)
        cost = self.cost[:, columns]
        cost[:, 1:] += self.hop_cost
        return RoutingProblem(self.confidence[:, columns[:-1]], self.gain[:, columns], np.cumsum(cost, axis=1))

    def halves(self, seed: int) -> tuple["ModelPool", "ModelPool"]:
        """Two random halves of the rows: one to choose on, one to judge on (the same size or one row less).

        Args:
            seed: of the split.
        """
        first, second = np.array_split(np.random.default_rng(seed).permutation(len(self)), 2)
        return self.take(first), self.take(second)

    def longest(self, stages: Sequence[int]) -> float:
        """Cost of a row that runs through all stages, each at its worst."""
        return float(self.worst_cost[list(stages)].sum()) + self.hop_cost * (len(stages) - 1)
