"""The value of each stage: the cost of the same accuracy without it."""

from dataclasses import dataclass

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds

__all__ = ["StageValues", "stage_values"]


# Smaller than for the calibration, since there is one search per stage; the refinement makes up for it.
LARGEST_GRID = 200_000
ROUNDING = 1e-12
"""Share by which the product of a recall and the share of positives may exceed the mean gain that it is."""


@dataclass(frozen=True, eq=False)
class StageValues:
    """The cheapest cascades with a given gain, of all K stages and of all but one.

    Attributes:
        gain: minimum accuracy, agreement or recall of each of them, in [0, 1].
        cost: mean cost per row with all stages.
        cost_without: (K,) mean cost per row without each stage; NaN if no cascade of the others with this gain was
            found.
    """

    gain: float
    cost: float
    cost_without: np.ndarray

    @property
    def pays(self) -> np.ndarray:
        """(K,) bool, whether the cascade without each stage is more expensive, or gains too little."""
        return ~(self.cost_without <= self.cost * (1 + 1e-9))


def stage_values(problem: RoutingProblem, gain: float, known_cost: float) -> StageValues:
    """Leaves out one stage at a time and searches again for the gain of a policy.

    All searches, including that with all stages, use the problem's rows, so that they can be compared.

    Args:
        problem: n rows, K >= 2 stages.
        gain: accuracy (agreement, recall) of the policy on these rows, in [0, 1]; the minimum for the searches.
        known_cost: mean cost per row of the policy.
    """
    # On a coarse grid the search may miss the policy's own thresholds.
    cost = np.fmin(_least_cost(problem, gain), known_cost)
    stages = range(problem.stages)
    others = [problem.select(tuple(k for k in stages if k != left_out)) for left_out in stages]
    return StageValues(gain, float(cost), np.array([_least_cost(each, gain) for each in others]))


def _least_cost(problem: RoutingProblem, gain: float) -> float:
    least = gain * problem.highest_gain * (1 - ROUNDING)
    thresholds = best_thresholds(problem, Target(least_gain=least), LARGEST_GRID)
    return np.nan if thresholds is None else problem.value(thresholds)[1]
