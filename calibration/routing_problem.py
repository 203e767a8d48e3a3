"""The threshold search as a problem on three arrays."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from cascade.calibration.calibrators import Temperature
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.costs.stage_prices import StagePrices
from cascade.calibration.tables.score_table import ScoreTable
from cascade.errors import ScoreTableError
from cascade.routers import ALWAYS, EVIDENCE_COLUMNS, NEVER, Router, answering_stage, deferred_early, new_evidence

__all__ = ["RoutingProblem", "calibrated_confidence", "table_evidence"]

MOST_STAGES_OF_ALL_SUBSETS = 6


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

    Where ``prices`` are given, the mean cost is a function of how much work reaches each stage, which is not a mean
    over rows; :meth:`priced_at` gives the linear problem that touches it at some thresholds.

    A stage whose threshold is ``NEVER`` answers no row. Where stages are optional it is not run either, and costs
    nothing: a search over :meth:`subsets` of the stages finds which of them pay.

    Attributes:
        confidence: (n, K - 1) calibrated confidence of all stages but the last.
        gain: (n, K) float, what is gained where a stage answers a row: 1 if right (or in agreement), else 0.
        cost: (n, K) float, cost of a row answered at a stage, all earlier ones included; where ``prices`` are given, if
            all rows came to every stage.
        highest: (K,) float, the most that any row, future ones included, may add to ``work`` at each stage, or to
            ``cost`` where there is no ``work``; inf where it is not known. ``None`` if no stage's is.
        abstains: whether the last of the K columns is no stage, but stands for the rows that no stage answers.
        work: (n, K) float, what a row adds to the work of a stage; ``None`` without ``prices``.
        prices: mean cost as a function of the shares of work; ``None`` where costs are constants per row.
        optional: whether stages with a threshold of ``NEVER`` are left out.
    """

    confidence: np.ndarray
    gain: np.ndarray
    cost: np.ndarray
    highest: np.ndarray | None = None
    abstains: bool = False
    work: np.ndarray | None = None
    prices: StagePrices | None = None
    optional: bool = True

    @classmethod
    def from_table(
        cls,
        table: ScoreTable,
        routers: tuple[Router, ...],
        agreement: bool,
        abstains: bool = False,
        arrivals: Arrivals = DEFAULT_ARRIVALS,
    ) -> "RoutingProblem":
        """The problem of a score table.

        Args:
            table: what the stages predicted.
            routers: K routers.
            agreement: gain agreement with the last stage instead of accuracy.
            abstains: whether the last stage may abstain (:meth:`abstaining`).
            arrivals: how many rows come together, where the table has cost curves.
        """
        gain = (table.agrees if agreement else table.correct).astype(np.float64)
        confidence = calibrated_confidence(table, routers)
        # A head looks at what all stages before it predicted.
        optional = all(router.head is None for router in routers)
        problem = cls.priced(confidence[:, :-1], gain, table.work, table.prices(arrivals), optional)
        problem = replace(problem, highest=table.highest_work)
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
        """The problem where rows that the last stage is unsure of end without an answer.

        Abstaining is one more column behind the last stage, at no further cost and without a gain, and
        ``abstain_below`` one more threshold: the same search and the same tests, on K + 1 columns.

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
        """Which rows are answered at all: (n,) bool, from the column (n,) int that each row ends in."""
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
        # Backwards: a row that is deferred early never reaches a later stage that would defer it early as well.
        for k in reversed(range(len(defer_below))):
            early = deferred_early(self.confidence[:, k], defer_below[k])
            gain[early, k + 1 :] = self.gain[early, -1:]
            cost[early, k + 1 :] = (self.cost[early, k] + last_cost[early])[:, None]
        return replace(self, gain=gain, cost=cost, optional=False)

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
    def least_cost(self) -> float:
        """Mean cost of a row at the cheapest stage alone."""
        alone = np.where(np.eye(self.stages, self.confidence.shape[1], dtype=bool), ALWAYS, NEVER)
        if self.abstains:
            alone[:, -1] = ALWAYS
        return min(self.value(thresholds)[1] for thresholds in alone)

    @property
    def highest_cost(self) -> float:
        """The most that a row may cost, if it runs through all stages; inf where that is not known."""
        return float(self.highest_costs.sum())

    @property
    def highest_costs(self) -> np.ndarray:
        """(K,) most that a row may cost at each stage, where all rows are such; inf where that is not known."""
        if self.highest is None:
            return np.full(self.stages, np.inf)
        return self.highest if self.prices is None else self.prices.of_rows(self.highest)

    def subsets(self) -> list[tuple[int, ...]]:
        """The sets of stages that a search looks at: all that hold the last stage, the full one first.

        Of more than ``MOST_STAGES_OF_ALL_SUBSETS`` stages, the full set and those that lack one stage or keep one.
        """
        earlier, last = tuple(range(self.stages - 1)), self.stages - 1
        if not self.optional:
            return [(*earlier, last)]
        sizes = range(len(earlier), -1, -1)
        if self.stages > MOST_STAGES_OF_ALL_SUBSETS:
            sizes = sorted({len(earlier), len(earlier) - 1, 1, 0}, reverse=True)  # type: ignore[assignment]
        return [(*chosen, last) for size in sizes for chosen in combinations(earlier, size)]

    def running(self, thresholds: np.ndarray) -> tuple[int, ...]:
        """The stages that thresholds (K - 1,) do not leave out."""
        last = self.stages - 1
        return tuple(k for k in range(self.stages) if k == last or not self.optional or thresholds[k] <= 1.0)

    def select(self, stages: tuple[int, ...]) -> "RoutingProblem":
        """The problem of some of the stages, in their order; the last of them answers what remains.

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
        )

    def widened(self, stages: tuple[int, ...], thresholds: np.ndarray) -> np.ndarray:
        """Thresholds (K - 1,) of all stages from those of :meth:`select`; the other stages answer nothing."""
        wide = np.full(self.confidence.shape[1], NEVER)
        wide[[*stages[:-1], self.stages - 1] if self.abstains else list(stages[:-1])] = thresholds
        return wide

    def shares(self, thresholds: np.ndarray) -> np.ndarray:
        """Mean work of a row at each stage under some thresholds (K - 1,); 0 at stages that are left out.

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
        """The problem at constant costs per row that are nowhere too low, and right at some shares.

        Args:
            thresholds: (K - 1,); stages that they leave out cost nothing.
            shares: (K,) of work at which the costs are right; by default those under the thresholds.

        Returns:
            A problem without prices. Its mean cost under these thresholds is at least the true one, on whatever rows.
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
        """Mean gain and mean cost of a row under some thresholds (K - 1,)."""
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
