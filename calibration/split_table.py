"""A score table with split rows: one part fits and proposes, the other tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.calibration.certificates.certification import split_rows, split_strata
from cascade.calibration.certificates.certifier import Certifier
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.smoothing import smoothed
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, Arrivals
from cascade.calibration.fitting.router_fitting import RouterChoice, fit_routers
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.early_deferral import at_constant_costs, best_early_deferral
from cascade.calibration.tables.score_table import ScoreTable
from cascade.routers import Router

__all__ = ["Fitted", "SplitTable"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the searching rows determine before anything is tested.

    Attributes:
        routers: K.
        defer_below: (K - 1,) early-deferral thresholds.
        certifier: with these routers and early-deferral thresholds.
    """

    routers: tuple[Router, ...]
    defer_below: np.ndarray
    certifier: Certifier


@dataclass(frozen=True, eq=False)
class SplitTable:
    """The two parts of a table, and the settings of the search.

    Attributes:
        search: rows that fit and propose.
        test: the other rows.
        choices: (score or head, calibrator) for each stage; ``None`` for the confidences as they are.
        early_deferral: whether to search early-deferral thresholds.
        arrivals: how many rows come together, where the table has cost curves.
    """

    search: ScoreTable
    test: ScoreTable
    choices: Sequence[RouterChoice] | None
    early_deferral: bool
    arrivals: Arrivals

    @classmethod
    def of(
        cls,
        table: ScoreTable,
        seed: int,
        choices: Sequence[RouterChoice] | None,
        early_deferral: bool,
        arrivals: Arrivals = DEFAULT_ARRIVALS,
        strata: np.ndarray | None = None,
    ) -> "SplitTable":
        """Splits a table of at least 2 rows at random, by a seed; with ``strata`` (n,) bool, both kinds of rows alike.

        A split by strata depends on the labels. That leaves a test of the rows of one label alone valid, and no other.
        """
        search, test = split_rows(len(table), seed) if strata is None else split_strata(strata, seed)
        return cls(table.take(search), table.take(test), choices, early_deferral, arrivals)

    def fitted(self, goal: Goal) -> Fitted:
        """Fits routers and early-deferral thresholds for a goal."""
        agreement = goal.gains_agreement(self.search)
        routers = fit_routers(self.search, self.choices, goal)
        parts = (self.search, self.test)
        search, test = (
            RoutingProblem.from_table(part, routers, agreement, goal.abstains, self.arrivals, goal.positive)
            for part in parts
        )
        search, defer_below = smoothed(search), np.zeros(self.search.stages - 1)
        if self.early_deferral:
            search, test = (
                at_constant_costs(search, goal.search_target),
                at_constant_costs(test, goal.search_target, search),
            )
            defer_below = best_early_deferral(search, goal.search_target(search))
        certifier = Certifier(search.deferring_early(defer_below), test.deferring_early(defer_below))
        return Fitted(routers, defer_below, certifier)

    @property
    def depends_on_value(self) -> bool:
        """Whether the fit depends on the value of a goal, and not only on its name."""
        return self.early_deferral or any(name == "cost_aware" for name, _ in self.choices or ())

    @property
    def duplicate_rows(self) -> int:
        """Testing rows with exactly the same predictions of every stage as a searching row."""
        searching = set(_fingerprints(self.search))
        return sum(each in searching for each in _fingerprints(self.test))


def _fingerprints(table: ScoreTable) -> list[bytes]:
    parts = [table.prediction, table.confidence, *([] if table.scores is None else [table.scores])]
    rows = np.concatenate([np.ascontiguousarray(part).view(np.uint8).reshape(len(table), -1) for part in parts], axis=1)
    width, content = rows.shape[1], rows.tobytes()
    return [content[start : start + width] for start in range(0, len(content), width)]
