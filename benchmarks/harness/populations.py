"""Populations of rows whose truth is known, to draw calibration samples from.

A population is a large score table. Rows drawn from it with replacement are independent draws, and a policy's behaviour
on future data is exactly its behaviour on the table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration import ScoreTable
from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
from cascade.calibration.routing_problem import RoutingProblem

__all__ = ["FAMILIES", "Population", "problem", "synthetic"]

ROWS = 100_000
COSTS = {2: (1.0, 30.0), 3: (1.0, 6.0, 30.0), 5: (1.0, 3.0, 8.0, 20.0, 50.0)}
LEVELS = 10


@dataclass(frozen=True, eq=False)
class Population:
    """All rows there are.

    Attributes:
        name: of the family.
        table: N rows, K stages, with labels.
    """

    name: str
    table: ScoreTable

    def sample(self, rows: int, rng: np.random.Generator) -> ScoreTable:
        """Independent draws."""
        return self.table.take(rng.integers(0, len(self.table), rows))

    def problem(self, agreement: bool = False) -> RoutingProblem:
        """The whole population as a problem; confidences are used as is."""
        return problem(self.table, agreement)


def problem(table: ScoreTable, agreement: bool = False) -> RoutingProblem:
    """The problem of a table whose confidences are used as is."""
    gain = table.agrees if agreement else table.correct
    confidence = table.confidence[:, :-1].astype(np.float64)
    prices = table.prices(DEFAULT_ARRIVALS)
    return replace(
        RoutingProblem.priced(confidence, gain.astype(np.float64), table.work, prices), highest=table.highest_work
    )


def _smooth(ease: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Calibrated confidences, but for noise."""
    return np.asarray(1 / (1 + np.exp(-1.7 * (ease + 0.5 * rng.normal(size=ease.shape)))))


def _ties(ease: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same, rounded to few levels."""
    return np.asarray(np.round(_smooth(ease, rng) * LEVELS) / LEVELS)


def _miscalibrated(ease: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Far too high confidences, highest for a random twentieth of the rows."""
    return np.asarray(np.where(rng.random(ease.shape) < 0.05, 0.999, _smooth(ease, rng) ** 0.1))


FAMILIES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "smooth": _smooth,
    "ties": _ties,
    "miscalibrated": _miscalibrated,
}


def synthetic(family: str, stages: int, rows: int = ROWS, seed: int = 0) -> Population:
    """Models of rising skill on rows of random difficulty, which all models share in part.

    Args:
        family: a name of ``FAMILIES``, the kind of the confidences.
        stages: K; 2, 3 or 5.
        rows: N.
        seed: of everything random.
    """
    rng = np.random.default_rng((seed, stages))
    difficulty = rng.normal(size=(rows, 1)) + 0.3 * rng.normal(size=(rows, stages))
    ease = np.linspace(0.8, 2.6, stages) - difficulty
    right = rng.random((rows, stages)) < 1 / (1 + np.exp(-2.2 * ease))
    confidence = FAMILIES[family](ease, rng)
    wrong = np.where(rng.random((rows, stages)) < 0.5, 1, rng.integers(2, 10, (rows, stages)))
    table = ScoreTable(
        np.where(right, 0, wrong),
        confidence,
        np.array(COSTS[stages]),
        np.array([f"stage{k}" for k in range(stages)]),
        label=np.zeros(rows, dtype=np.int64),
    )
    return Population(family, table)
