"""Cascades with their best thresholds: the candidates that are worth a search of thresholds, best first."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.calibration.choice.candidate_screen import CandidateScreen, Stages
from cascade.calibration.choice.model_pool import ModelPool
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.routers import answering_stage

__all__ = ["REFINED", "Candidate", "best_candidate", "full_ladder", "refined", "replay"]

REFINED = 24
POLISHED = 3
QUICK_GRID = 20_000
LONGEST_LADDER = 16  # two thresholds per stage fill the grid of the threshold search

Found = dict[Stages, "Candidate"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A cascade with its thresholds, and its means on the rows that chose them.

    Attributes:
        stages: models of the pool; each of them answers a row.
        thresholds: (K - 1,).
        gain: mean.
        cost: mean.
    """

    stages: Stages
    thresholds: np.ndarray
    gain: float
    cost: float

    @classmethod
    def of(cls, pool: ModelPool, stages: Stages, thresholds: np.ndarray) -> "Candidate":
        """A cascade with given thresholds on the rows of a pool."""
        return cls(stages, thresholds, *pool.problem(stages).value(thresholds))

    def merit(self, target: Target) -> tuple[float, float]:
        """Smaller is better, among candidates that reach the target."""
        # Rounded, so that equal means that were summed in another order are equal.
        cost, gain = round(self.cost, 12), round(self.gain, 12)
        return (cost, -gain) if target.least_gain is not None else (-gain, cost)


def replay(pool: ModelPool, stages: Stages, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answering stage, gain and cost of each row: three arrays (n,)."""
    problem = pool.problem(stages)
    stage = answering_stage(problem.confidence, thresholds)
    gain = np.take_along_axis(problem.gain, stage[:, None], axis=1)[:, 0]
    return stage, gain, problem.row_cost(thresholds)


def best_candidate(pool: ModelPool, target: Target, stages: Stages, largest: int | None = None) -> Candidate | None:
    """A cascade with its best thresholds, without the stages that answer no row; ``None`` if it misses the target.

    Args:
        pool: the rows that choose.
        target: on these rows.
        stages: models of the pool.
        largest: bound on the number of combinations in the grid of the search; by default that of the search.
    """
    problem = pool.problem(stages)
    thresholds = best_thresholds(problem, target) if largest is None else best_thresholds(problem, target, largest)
    if thresholds is None:
        return None
    answering = np.unique(replay(pool, stages, thresholds)[0])
    return Candidate.of(pool, tuple(stages[k] for k in answering), thresholds[answering[:-1]])


def refined(screen: CandidateScreen, on_threshold: Callable[[int, int], None]) -> Found:
    """Searches the thresholds of the most promising candidates on a coarse grid, then of the best ones fully.

    Args:
        screen: with the standings of all candidates.
        on_threshold: called with the candidates done and their total.

    Returns:
        The candidates that reach the target, best first; of equally good ones the shortest.
    """
    found: Found = {}
    candidates = _worth_refining(screen)
    total = len(candidates) + POLISHED
    for done, stages in enumerate(candidates, 1):
        _keep(found, screen.target, best_candidate(screen.pool, screen.target, stages, QUICK_GRID))
        on_threshold(done, total)
    for done, stages in enumerate(_ranked(found, screen.target)[:POLISHED], 1):
        _keep(found, screen.target, best_candidate(screen.pool, screen.target, stages))
        on_threshold(len(candidates) + done, total)
    return {stages: found[stages] for stages in _ranked(found, screen.target)}


def full_ladder(screen: CandidateScreen, found: Found) -> tuple[Candidate | None, str]:
    """All models in the order of the table with their best thresholds, or the reason why they cannot be used."""
    ladder = tuple(range(screen.pool.models))
    if ladder in found:
        return found[ladder], ""
    if len(ladder) > LONGEST_LADDER:
        return None, f"it has more than {LONGEST_LADDER} stages, too many for a threshold search"
    if not screen.fits(ladder):
        return None, f"it misses the deadline: {screen.pool.longest(ladder):g} at worst"
    thresholds = best_thresholds(screen.pool.problem(ladder), screen.target)
    if thresholds is None:
        return None, "no thresholds were found with which it reaches the target"
    return Candidate.of(screen.pool, ladder, thresholds), ""


def _worth_refining(screen: CandidateScreen) -> list[Stages]:
    """The best candidates, all single models, the best of several models, and the best with each model."""
    ranked = screen.ranked()
    singles = [stages for stages in ranked if len(stages) == 1]
    several = [stages for stages in ranked if len(stages) > 1]
    with_model = [next((s for s in several if m in s), None) for m in range(screen.pool.models)]
    chosen = dict.fromkeys([*ranked[:REFINED], *singles, *several[:POLISHED], *with_model])
    return [stages for stages in chosen if stages is not None]


def _keep(found: Found, target: Target, candidate: Candidate | None) -> None:
    if candidate is None:
        return
    other = found.get(candidate.stages)
    if other is None or candidate.merit(target) < other.merit(target):
        found[candidate.stages] = candidate


def _ranked(found: Found, target: Target) -> list[Stages]:
    return sorted(found, key=lambda stages: (found[stages].merit(target), len(stages), stages))
