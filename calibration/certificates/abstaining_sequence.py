"""The sequence of thresholds that the certification of a cascade that may abstain walks along.

More caution with one promise is less with another: a row that is not answered cannot be wrong, but counts against the
most that may be abstained. So the sequence goes along one number, how many standard errors the proposals stay away from
where any promise breaks, and takes the cheapest thresholds at each.
"""

from dataclasses import replace

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import AbstainingGrid, Limits, abstaining_candidates
from cascade.calibration.search.grid import Grid

__all__ = ["propose_abstaining"]

LARGEST_GRID = 200_000
# In standard errors, from surest to most daring. What the rows that propose say may be too low, too.
CAUTION = np.linspace(3.0, -2.0, 101)


def propose_abstaining(goal: Goal, problem: RoutingProblem, tested_rows: int) -> list[np.ndarray]:
    """Proposals for a goal with a most abstained share.

    Args:
        goal: its targets.
        problem: n rows that will not test what is proposed, K stages and the column of abstaining; with smoothed gains.
        tested_rows: number of rows that will test.

    Returns:
        Thresholds (K,), the last one ``abstain_below``; at least one, surest first.
    """
    limits = goal.limits()
    points = AbstainingGrid.of(problem, Grid.of(problem, LARGEST_GRID, abstaining_candidates(problem, limits)))
    error = (1 / tested_rows + 1 / len(problem)) ** 0.5
    cautious = [_cautious(limits, caution * error, problem) for caution in CAUTION]
    places = [place for each in cautious if (place := points.best(each)) is not None]
    places = places or [_nearest(points, limits)]
    return [points.grid.thresholds(place) for place in dict.fromkeys(places)]


def _cautious(limits: Limits, margin: float, problem: RoutingProblem) -> Limits:
    """Limits that are stricter by a multiple of the standard deviation of a row's outcome."""
    most, least = limits.most_abstained, limits.least_accuracy
    spread = float(problem.cost[:, -1].mean() - problem.cost[:, 0].mean()) / 2
    return replace(
        limits,
        most_abstained=max(most - margin * (most * (1 - most)) ** 0.5, 0.0),
        accuracy_margin=0.0 if least is None else margin * (least * (1 - least)) ** 0.5,
        most_cost=limits.most_cost - margin * spread,
    )


def _nearest(points: AbstainingGrid, limits: Limits) -> int:
    """What comes nearest to limits that cannot be kept: the cheapest that keeps the others, or the most accurate."""
    cheapest = points.best(replace(limits, most_cost=np.inf))
    if limits.least_accuracy is None:
        return int(np.argmin(points.cost))
    return points.most_accurate(limits.most_abstained) if cheapest is None else cheapest
