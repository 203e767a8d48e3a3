"""The threshold search as a problem on three arrays."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.calibrators import Temperature
from cascade.calibration.score_table import ScoreTable
from cascade.errors import ScoreTableError
from cascade.routers import EVIDENCE_COLUMNS, Router, answering_stage, new_evidence, skipping

__all__ = ["RoutingProblem", "calibrated_confidence", "table_evidence"]


def calibrated_confidence(table: ScoreTable, routers: tuple[Router, ...]) -> np.ndarray:
    """The confidences that a cascade's thresholds are compared with.

    Args:
        table: what the stages said.
        routers: K routers.

    Returns:
        (n, K) float64 in [0, 1].

    Raises:
        ScoreTableError: a router has a temperature, which only class probabilities can be divided by, or a head that
            looks at them, and the table has none.
    """
    for name, router in zip(table.stage, routers, strict=True):
        if table.scores is None and router.head is not None and router.head.needs_probabilities:
            raise ScoreTableError(
                f"stage {str(name)!r} has a head on class probabilities, but the score table has no 'scores'; "
                "collect them, or calibrate on this table"
            )
        if table.scores is None and isinstance(router.calibrator, Temperature):
            raise ScoreTableError(
                f"stage {str(name)!r} is calibrated by a temperature, but the score table has no 'scores'; "
                "collect them, or calibrate on this table"
            )
    evidence = table_evidence(table) if any(router.head is not None for router in routers) else None
    columns = [
        router.confidence(
            None if table.scores is None else table.scores[:, k],
            table.confidence[:, k],
            None if evidence is None else evidence[:, : (k + 1) * len(EVIDENCE_COLUMNS)],
        )
        for k, router in enumerate(routers)
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def table_evidence(table: ScoreTable) -> np.ndarray:
    """(n, 5 K) float64, what the heads of the last stage would look at; those of stage k see the first 5 (k + 1)."""
    columns = [
        new_evidence(
            table.prediction[:, k], table.confidence[:, k], None if table.scores is None else table.scores[:, k]
        )
        for k in range(table.stages)
    ]
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True, eq=False)
class RoutingProblem:
    """What n rows gain and cost, depending on the stage that answers them.

    Attributes:
        confidence: (n, K - 1) calibrated confidence of all stages but the last.
        gain: (n, K) float, what is gained where a stage answers a row: 1 if right (or in agreement), else 0.
        cost: (n, K) float, cost of a row answered at a stage, all earlier ones included.
        abstains: whether the last of the K columns is no stage, but stands for the rows that nobody answers.
        skipped_cost: highest cost of a row of the problem without skipping, where this is one with (0 otherwise).
    """

    confidence: np.ndarray
    gain: np.ndarray
    cost: np.ndarray
    skipped_cost: float = 0.0
    abstains: bool = False

    @classmethod
    def from_table(
        cls, table: ScoreTable, routers: tuple[Router, ...], agreement: bool, abstains: bool = False
    ) -> "RoutingProblem":
        """The problem of a score table.

        Args:
            table: what the stages said.
            routers: K routers.
            agreement: gain agreement with the last stage instead of accuracy.
            abstains: whether the last stage may abstain (:meth:`abstaining`).
        """
        gain = table.agrees if agreement else table.correct
        confidence = calibrated_confidence(table, routers)
        problem = cls(confidence[:, :-1], gain.astype(np.float64), table.cumulative_cost)
        return problem.abstaining(confidence[:, -1]) if abstains else problem

    def __len__(self) -> int:
        return len(self.confidence)

    def abstaining(self, confidence: np.ndarray) -> "RoutingProblem":
        """The problem where rows that the last stage is unsure of end without an answer.

        Abstaining is one more column behind the last stage, at no further cost and without a gain, and
        ``abstain_below`` one more threshold: the same search and the same tests, on K + 1 columns.

        Args:
            confidence: (n,) calibrated confidence of the last stage.
        """
        return RoutingProblem(
            np.column_stack([self.confidence, confidence]),
            np.column_stack([self.gain, np.zeros(len(self))]),
            np.column_stack([self.cost, self.cost[:, -1]]),
            self.skipped_cost,
            abstains=True,
        )

    def answered(self, stage: np.ndarray) -> np.ndarray:
        """Which rows are answered at all: (n,) bool, from the column (n,) int that each row ends in."""
        return stage < self.gain.shape[1] - 1 if self.abstains else np.ones(len(stage), dtype=bool)

    def skipping(self, skip_below: np.ndarray) -> "RoutingProblem":
        """The problem where rows below lower thresholds go straight to the last stage.

        Such a row, if the stage does not answer it, gains what the last stage gains, at the cost of the stages that
        looked at it and of the last one, whatever the thresholds between are: the same search, on other numbers.

        Args:
            skip_below: (K - 1,) in [0, 1]; zeros change nothing.
        """
        if not skip_below.any():
            return self
        gain, cost = self.gain.copy(), self.cost.copy()
        last_cost = self.cost[:, -1] - self.cost[:, -2]
        # Backwards: where a row skips, it never comes to a later stage that it would skip from.
        for k in reversed(range(len(skip_below))):
            skips = skipping(self.confidence[:, k], skip_below[k])
            gain[skips, k + 1 :] = self.gain[skips, -1:]
            cost[skips, k + 1 :] = (self.cost[skips, k] + last_cost[skips])[:, None]
        return RoutingProblem(self.confidence, gain, cost, self.highest_cost)

    @property
    def highest_cost(self) -> float:
        """Cost of the dearest row if it runs through all stages, which rows to come may do even where these skip."""
        return max(float(self.cost[:, -1].max()), self.skipped_cost)

    def value(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Mean gain and mean cost of a row under some thresholds (K - 1,)."""
        stage = answering_stage(self.confidence, thresholds)[:, None]
        gain = np.take_along_axis(self.gain, stage, axis=1)
        cost = np.take_along_axis(self.cost, stage, axis=1)
        return float(gain.mean()), float(cost.mean())
