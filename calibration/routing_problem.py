"""The threshold search as a problem of three arrays: confidences, gains and costs."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.detection import Detection
from cascade.calibration.table_confidence import calibrated_confidence
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import ALWAYS, NEVER, Router, answering_stage, deferred_early

__all__ = ["RoutingProblem"]

MOST_STAGES_OF_ALL_SUBSETS = 6


@dataclass(frozen=True, eq=False)
class RoutingProblem:
    """Gain and cost of n rows, depending on the stage that answers each.

    With ``prices`` the mean cost is a function of the work that reaches each stage, which is not a mean over rows;
    :meth:`priced_at` gives the linear problem that equals it at some thresholds.

    A stage with the threshold ``NEVER`` accepts no row. Where stages are optional it does not run either, and costs
    nothing: a search over :meth:`subsets` of the stages finds which of them pay.

    Attributes:
        confidence: (n, K - 1) calibrated confidence of all stages but the last.
        gain: (n, K) float, 1 if the answer of a stage is right (or agrees with the last stage), else 0.
        cost: (n, K) float, cost of a row answered at a stage, all earlier ones included; with ``prices``, if all rows
            reached every stage.
        highest: (K,) float, bound for any row, future ones included, of ``work`` at each stage, or of its cost without
            ``work``; inf without a bound. ``None`` if no stage has one.
        abstains: whether the last of the K columns is not a stage, but for the rows that no stage answers.
        work: (n, K) float, work of a row at each stage; ``None`` without ``prices``.
        prices: mean cost as a function of the reach shares; ``None`` where costs are constants per row.
        optional: whether stages with the threshold ``NEVER`` are left out.
        detection: where the gain is of positive rows only, which rows those are; the mean gain is then the recall
            times their share. ``None`` for any other gain.
    """

    confidence: np.ndarray
    gain: np.ndarray
    cost: np.ndarray
    highest: np.ndarray | None = None
    abstains: bool = False
    work: np.ndarray | None = None
    prices: StagePrices | None = None
    optional: bool = True
    detection: Detection | None = None

    @classmethod
    def from_table(
        cls,
        table: ScoreTable,
        routers: tuple[Router, ...],
        agreement: bool,
        abstains: bool = False,
        arrivals: Arrivals = DEFAULT_ARRIVALS,
        positive: int | None = None,
    ) -> "RoutingProblem":
        """The problem of a score table.

        Args:
            table: n rows, K stages.
            routers: K.
            agreement: whether the gain is agreement with the last stage instead of accuracy.
            abstains: whether the last stage may abstain (:meth:`abstaining`).
            arrivals: how many rows come together, where the table has cost curves.
            positive: a class; the gain is then of rows with this label that are answered as this class.
        """
        detection = None if positive is None else Detection.of(table, positive)
        gain = detection.gain if detection else (table.agrees if agreement else table.correct).astype(np.float64)
        confidence = calibrated_confidence(table, routers)
        # A head reads the evidence of all stages before it.
        optional = all(router.head is None for router in routers)
        problem = cls.priced(confidence[:, :-1], gain, table.work, table.prices(arrivals), optional)
        problem = replace(problem, highest=table.highest_work, detection=detection)
        return problem.abstaining(confidence[:, -1]) if abstains else problem

    @classmethod
    def priced(
        cls,
        confidence: np.ndarray,
        gain: np.ndarray,
        work: np.ndarray,
        prices: StagePrices | None,
        optional: bool = True,
    ) -> "RoutingProblem":
        """A problem from the work of rows (n, K); without prices the work is the cost."""
        if prices is None:
            return cls(confidence, gain, np.cumsum(work, axis=1), optional=optional)
        cost = np.cumsum(work * prices.secant(np.ones(work.shape[1])), axis=1)
        return cls(confidence, gain, cost, work=work, prices=prices, optional=optional)

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def stages(self) -> int:
        """Number of stages; K, or one less where the cascade may abstain."""
        return len(self.gain[0]) - self.abstains

    def abstaining(self, confidence: np.ndarray) -> "RoutingProblem":
        """The problem where the last stage may abstain.

        Abstaining is one more column after the last stage, without further cost or gain, and ``abstain_below`` is one
        more threshold: the same search and the same tests on K + 1 columns.

        Args:
            confidence: (n,) calibrated confidence of the last stage.
        """
        nothing = np.zeros(len(self))
        return replace(
            self,
            confidence=np.column_stack([self.confidence, confidence]),
            gain=np.column_stack([self.gain, nothing]),
            cost=np.column_stack([self.cost, self.cost[:, -1]]),
            abstains=True,
        )

    def answered(self, stage: np.ndarray) -> np.ndarray:
        """Which rows are answered: (n,) bool, from the column (n,) int in which each row ends."""
        return stage < self.gain.shape[1] - 1 if self.abstains else np.ones(len(stage), dtype=bool)

    def deferring_early(self, defer_below: np.ndarray) -> "RoutingProblem":
        """The problem where rows below an early-deferral threshold go to the last stage at once.

        Such a row, if the stage does not accept it, gains what the last stage gains, at the cost of the stages that it
        reached and of the last one, whatever the thresholds between are: the same search, on other numbers.

        Args:
            defer_below: (K - 1,) in [0, 1]; zeros change nothing.

        Raises:
            ValueError: the problem has prices; take :meth:`priced_at` first.
        """
        if not defer_below.any():
            return self
        if self.prices is not None:
            raise ValueError("rows can only be deferred early at constant costs per row")
        gain, cost = self.gain.copy(), self.cost.copy()
        last_cost = self.cost[:, -1] - self.cost[:, -2]
        detection = None if self.detection is None else self.detection.copy()
        # Backwards: a row that is deferred early never reaches a later stage that would defer it early as well.
        for k in reversed(range(len(defer_below))):
            early = deferred_early(self.confidence[:, k], defer_below[k])
            gain[early, k + 1 :] = self.gain[early, -1:]
            cost[early, k + 1 :] = (self.cost[early, k] + last_cost[early])[:, None]
            if detection is not None:
                detection.answered[early, k + 1 :] = detection.answered[early, -1:]
        return replace(self, gain=gain, cost=cost, optional=False, detection=detection)

    def with_early_deferral(
        self, defer_below: np.ndarray, thresholds: np.ndarray, shares: np.ndarray | None = None
    ) -> "RoutingProblem":
        """:meth:`deferring_early`, where there are prices at the constant costs per row of some thresholds.

        Args:
            defer_below: (K - 1,); zeros change nothing.
            thresholds: (K - 1,).
            shares: (K,) of work, as for :meth:`priced_at`.
        """
        if not defer_below.any() or self.prices is None:
            return self.deferring_early(defer_below)
        return replace(self, optional=False).priced_at(thresholds, shares).deferring_early(defer_below)

    @property
    def highest_gain(self) -> float:
        """Mean gain if every answer is right: the share of positive rows where only these gain, else 1."""
        return 1.0 if self.detection is None else self.detection.share

    @property
    def least_cost(self) -> float:
        """Mean cost per row of the cheapest stage alone."""
        alone = np.where(np.eye(self.stages, self.confidence.shape[1], dtype=bool), ALWAYS, NEVER)
        if self.abstains:
            alone[:, -1] = ALWAYS
        return min(self.value(thresholds)[1] for thresholds in alone)

    @property
    def highest_cost(self) -> float:
        """Highest cost of a row that runs through all stages; inf without a bound."""
        return float(self.highest_costs.sum())

    @property
    def highest_costs(self) -> np.ndarray:
        """(K,) highest cost per row of each stage, if all rows have it; inf without a bound."""
        if self.highest is None:
            return np.full(self.stages, np.inf)
        return self.highest if self.prices is None else self.prices.of_rows(self.highest)

    def subsets(self) -> list[tuple[int, ...]]:
        """The sets of stages that a search considers: all that contain the last stage, the full one first.

        With more than ``MOST_STAGES_OF_ALL_SUBSETS`` stages, the full set and the sets with one stage less, or with one
        stage beside the last.
        """
        earlier, last = tuple(range(self.stages - 1)), self.stages - 1
        if not self.optional:
            return [(*earlier, last)]
        sizes = range(len(earlier), -1, -1)
        if self.stages > MOST_STAGES_OF_ALL_SUBSETS:
            sizes = sorted({len(earlier), len(earlier) - 1, 1, 0}, reverse=True)  # type: ignore[assignment]
        return [(*chosen, last) for size in sizes for chosen in combinations(earlier, size)]

    def running(self, thresholds: np.ndarray) -> tuple[int, ...]:
        """The stages that run at some thresholds (K - 1,)."""
        last = self.stages - 1
        return tuple(k for k in range(self.stages) if k == last or not self.optional or thresholds[k] <= 1.0)

    def select(self, stages: tuple[int, ...]) -> "RoutingProblem":
        """The problem of some of the stages, in order; the last of them answers the remaining rows.

        Args:
            stages: rising, at least one.
        """
        if len(stages) == self.stages:
            return self
        columns = [*stages, self.stages] if self.abstains else list(stages)
        own = np.diff(self.cost, axis=1, prepend=0.0)
        return RoutingProblem(
            self.confidence[:, columns[:-1]],
            self.gain[:, columns],
            np.cumsum(own[:, columns], axis=1),
            None if self.highest is None else self.highest[list(stages)],
            self.abstains,
            None if self.work is None else self.work[:, list(stages)],
            None if self.prices is None else self.prices.select(stages),
            self.optional,
            None if self.detection is None else self.detection.select(columns),
        )

    def widened(self, stages: tuple[int, ...], thresholds: np.ndarray) -> np.ndarray:
        """Thresholds (K - 1,) of all stages from those of :meth:`select`; the other stages have ``NEVER``."""
        wide = np.full(self.confidence.shape[1], NEVER)
        wide[[*stages[:-1], self.stages - 1] if self.abstains else list(stages[:-1])] = thresholds
        return wide

    def shares(self, thresholds: np.ndarray) -> np.ndarray:
        """Mean work per row at each stage under some thresholds (K - 1,); 0 at stages that are left out.

        Raises:
            ValueError: the problem has no prices.
        """
        if self.work is None:
            raise ValueError("a problem without prices has no shares of work")
        stage = answering_stage(self.confidence, thresholds)
        shares = np.zeros(self.stages)
        for k in self.running(thresholds):
            shares[k] = self.work[stage >= k, k].sum() / len(self)
        return shares

    def priced_at(self, thresholds: np.ndarray, shares: np.ndarray | None = None) -> "RoutingProblem":
        """The problem at constant costs per row that are never too low, and exact at some shares.

        Args:
            thresholds: (K - 1,); stages that do not run cost nothing.
            shares: (K,) of work at which the costs are exact; by default those under the thresholds.

        Returns:
            A problem without prices. Its mean cost under these thresholds is at least the true one, on any rows.
        """
        running = list(self.running(thresholds))
        own, highest = np.zeros_like(self.cost), np.zeros(self.stages)
        bound = np.full(self.stages, np.inf) if self.highest is None else self.highest
        if self.prices is None or self.work is None:
            if len(running) == self.stages:
                return self
            own[:, running] = np.diff(self.cost, axis=1, prepend=0.0)[:, running]
            highest[running] = bound[running]
        else:
            intercept, slope = self.prices.tangent(self.shares(thresholds) if shares is None else shares)
            for k in running:
                own[:, k] = slope[k] * self.work[:, k]
                highest[k] = slope[k] * bound[k] if slope[k] else 0.0
            own[:, 0] += intercept[running].sum()
            highest[0] += intercept[running].sum()
        return replace(self, cost=np.cumsum(own, axis=1), highest=highest, work=None, prices=None)

    def value(self, thresholds: np.ndarray) -> tuple[float, float]:
        """Mean gain and mean cost per row under some thresholds (K - 1,)."""
        stage = answering_stage(self.confidence, thresholds)[:, None]
        gain = float(np.take_along_axis(self.gain, stage, axis=1).mean())
        if self.prices is not None:
            return gain, self.prices.total(self.shares(thresholds))
        return gain, float(self.row_cost(thresholds).mean())

    def row_cost(self, thresholds: np.ndarray) -> np.ndarray:
        """(n,) cost of each row under some thresholds (K - 1,); with prices see :meth:`StagePrices.row_cost`."""
        stage = answering_stage(self.confidence, thresholds)[:, None]
        if self.prices is not None and self.work is not None:
            runs = np.isin(np.arange(self.stages), self.running(thresholds))
            return self.prices.row_cost(self.work, runs & (stage >= np.arange(self.stages)))
        return np.asarray(np.take_along_axis(self.priced_at(thresholds).cost, stage, axis=1)[:, 0])
