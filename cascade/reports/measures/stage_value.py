"""What each stage adds: what the same accuracy costs without it."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds

__all__ = ["StageValues", "stage_values"]


# Smaller than the calibration's, since there is a search a stage; the refinement that follows makes up for it.
LARGEST_GRID = 200_000


@dataclass(frozen=True, eq=False)
class StageValues:
    """The cheapest cascades that gain enough, of all K stages and of all but one.

    Attributes:
        gain: mean gain that each of them reaches at least, in [0, 1].
        cost: mean cost of a row with all stages.
        cost_without: (K,) mean cost of a row without each stage; NaN where the others were not found to gain enough.
    """

    gain: float
    cost: float
    cost_without: np.ndarray

    @property
    def pays(self) -> np.ndarray:
        """(K,) bool, whether the cascade is dearer, or gains too little, without each stage."""
        return ~(self.cost_without <= self.cost * (1 + 1e-9))


def stage_values(problem: RoutingProblem, gain: float, known_cost: float) -> StageValues:
    """Leaves out one stage after the other and searches again for the gain of a policy.

    All searches are on the problem's rows, the one with all stages as well, so that they can be compared.

    Args:
        problem: n rows, K >= 2 stages.
        gain: mean gain of the policy on these rows, in [0, 1], which has to be reached.
        known_cost: its mean cost of a row.
    """
    # On a coarse grid the search may miss the thresholds that are known already.
    cost = np.fmin(_least_cost(problem, gain), known_cost)
    stages = range(problem.stages)
    others = [problem.select(tuple(k for k in stages if k != left_out)) for left_out in stages]
    return StageValues(gain, float(cost), np.array([_least_cost(each, gain) for each in others]))


def _least_cost(problem: RoutingProblem, gain: float) -> float:
    thresholds = best_thresholds(problem, Target(least_gain=gain), LARGEST_GRID)
    return np.nan if thresholds is None else problem.value(thresholds)[1]
