"""Sequences of thresholds for a certification.

For a cascade that answers every row, the sequence is the frontier of the proposing rows.

For a cascade that may abstain, it likewise goes from the safest for the main target to the least safe. Each step takes
the cheapest thresholds of any subset of the stages, or with a budget alone the most accurate ones. But safer accuracy
of the answered rows makes the abstained share less safe. So that share starts clearly below its limit, and comes closer
to it with every step. Compared with a sequence with one margin for all guarantees, on 4,000 rows: certified about as
often, and 3 to 8 % cheaper.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cascade.calibration.certificates.goal import CLEAR_MARGIN, Goal
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import AbstainingGrid, Limits, abstaining_candidates
from cascade.calibration.search.candidates import thinned
from cascade.calibration.search.frontier import OperatingPoint, of_all_subsets, points_at
from cascade.calibration.search.grid import Grid
from cascade.calibration.search.precise_points import precise_points

__all__ = ["propose", "propose_abstaining", "propose_precise"]

LONGEST = 200
LARGEST_GRID = 200_000
STEPS = 100
# In standard errors of the difference between the proposing and the testing rows.
LAST_SHARE_MARGIN = 1.0
BEYOND = 2.0  # the estimate of the main target on the proposing rows may be too low
MOST_SPARED = 0.7  # of the abstained share, on few rows


def propose(problem: RoutingProblem) -> list[OperatingPoint]:
    """The frontier of a problem, on one grid for each subset of its stages.

    Args:
        problem: n proposing rows, K stages; with smoothed gains.

    Returns:
        At most 200 points by rising cost and gain.
    """

    def points_of(running: RoutingProblem) -> Iterator[OperatingPoint]:
        grid = Grid.of(running, LARGEST_GRID)
        return points_at(grid, grid.frontier())

    points = of_all_subsets(problem, points_of)
    return [points[i] for i in thinned(np.arange(len(points)), LONGEST)]


def propose_abstaining(goal: Goal, problem: RoutingProblem, tested_rows: int) -> list[np.ndarray]:
    """Proposals for a goal with a largest abstained share.

    Args:
        goal: its targets.
        problem: n proposing rows, K stages and the column of abstaining; with smoothed gains.
        tested_rows: number of testing rows.

    Returns:
        Thresholds (K,), the last one ``abstain_below``; at least one, safest first.
    """
    limits = goal.limits()
    subsets = problem.subsets()
    parts = [problem.select(stages) for stages in subsets]
    largest = LARGEST_GRID // len(parts)
    grids = [Grid.of(part, largest, abstaining_candidates(part, limits)) for part in parts]
    points = AbstainingGrid.joined([AbstainingGrid.of(*pair) for pair in zip(parts, grids, strict=True)])
    starts = np.cumsum([0, *(grid.cost.size for grid in grids)])
    error = (1 / tested_rows + 1 / len(problem)) ** 0.5
    steps = _steps(points, limits, error, float(problem.cost[:, -1].mean() - problem.cost[:, 0].mean()) / 2)
    places = [place for step in steps if (place := points.best(step)) is not None] or [_nearest(points, limits)]
    found = []
    for place in dict.fromkeys(places):
        part = int(np.searchsorted(starts, place, "right")) - 1
        found.append(problem.widened(subsets[part], grids[part].thresholds(place - int(starts[part]))))
    return found


def propose_precise(
    problem: RoutingProblem, tested_rows: int, least_recall: float, least_precision: float
) -> list[np.ndarray]:
    """Proposals for a target of recall beside one of precision.

    The first one is the safest for both: the least of its two distances from the targets, in standard errors, is the
    largest. The next ones have a lower and lower recall and cost, and a precision that is as clear of its target.

    Args:
        problem: n proposing rows with a positive class, K stages; with smoothed gains.
        tested_rows: number of testing rows.
        least_recall: target.
        least_precision: target.

    Returns:
        Thresholds (K - 1,); at least one, safest first.
    """
    points = list(precise_points(problem, least_precision, LARGEST_GRID))
    error = (1 + len(problem) / tested_rows) ** 0.5
    positives = 0 if problem.detection is None else int(problem.detection.is_positive.sum())
    recall = [_clearance(point.recall, least_recall, positives, error) for point in points]
    precision = [_clearance(point.precision, least_precision, point.answered, error) for point in points]
    start = max(range(len(points)), key=lambda i: (min(recall[i], precision[i]), -points[i].cost))
    clear = min(precision[start], CLEAR_MARGIN)
    later = [i for i in range(len(points)) if points[i].recall < points[start].recall and precision[i] >= clear]
    found, cost = [points[start].thresholds], points[start].cost
    for i in sorted(later, key=lambda i: (-points[i].recall, points[i].cost)):
        if points[i].cost < cost:
            found.append(points[i].thresholds)
            cost = points[i].cost
    return found


def _clearance(share: float, least: float, rows: float, error: float) -> float:
    """Distance of a share of some proposing rows from its target, in standard errors of the difference."""
    deviation = float(np.sqrt(max(least * (1 - least), 1e-6) / max(rows, 1)))
    return (share - least) / (deviation * error)


def _steps(points: AbstainingGrid, limits: Limits, error: float, cost_deviation: float) -> list[Limits]:
    """Limits from the strictest to the least strict.

    Args:
        points: all.
        limits: of the goal.
        error: standard error of a difference of means, in standard deviations of one row.
        cost_deviation: estimate of the standard deviation of the cost per row.
    """
    share, least = limits.most_abstained, limits.least_accuracy
    margins = np.linspace(CLEAR_MARGIN, LAST_SHARE_MARGIN, STEPS) * error * (share * (1 - share)) ** 0.5
    shares = share - np.minimum(margins, MOST_SPARED * share)
    if least is None:
        costs = np.linspace(points.cost.min(), limits.most_cost + BEYOND * error * cost_deviation, STEPS)
        return [Limits(each, None, cost) for each, cost in zip(shares, costs, strict=True)]
    within = limits.most_cost - CLEAR_MARGIN * error * cost_deviation
    above = points.right - least * (1 - points.abstained)
    allowed = (points.abstained <= shares[0]) & (points.cost <= within)
    safest = above[allowed].max(initial=-1.0)
    accuracies = np.linspace(safest, -BEYOND * error * (least * (1 - least)) ** 0.5, STEPS)
    return [Limits(each, least, within, margin) for each, margin in zip(shares, accuracies, strict=True)]


def _nearest(points: AbstainingGrid, limits: Limits) -> int:
    """The point nearest to limits that cannot be met: the cheapest that meets the others, or the most accurate."""
    cheapest = points.best(replace(limits, most_cost=np.inf))
    if limits.least_accuracy is None:
        return int(np.argmin(points.cost))
    return points.most_accurate(limits.most_abstained) if cheapest is None else cheapest
