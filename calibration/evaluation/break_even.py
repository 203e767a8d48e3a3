"""The number of rows together from which a cascade pays, on given rows; a certificate may need more."""

import numpy as np

from cascade.calibration.certificates.goal import Goal
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.policies.certificate import positive_of
from cascade.calibration.policies.policy import Policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import best_thresholds
from cascade.calibration.tables.score_table import ScoreTable

__all__ = ["pays_from"]

MOST_ROWS = 1 << 16
QUICK_GRID = 20_000
LEAST_SAVING = 0.01


def pays_from(table: ScoreTable, policy: Policy) -> int | None:
    """The smallest power of two of rows together for which some cascade is cheaper than the last stage alone.

    Args:
        table: n rows, with cost curves.
        policy: gives the routers, and by its certificate the target, which is searched on these rows.

    Returns:
        At least 1; ``None`` if no cascade pays up to 65,536 rows, or the policy has no target of gain.
    """
    targets = policy.certificate.get("target")
    if not table.has_curves or not isinstance(targets, dict):
        return None
    goal = Goal.of(positive_of(policy.certificate), **{name: float(value) for name, value in targets.items()}).parts[0]
    if goal.name == "max_cost":
        return None
    for rows in (1 << power for power in range(MOST_ROWS.bit_length())):
        arrivals = RowsTogether((rows,))
        problem = RoutingProblem.from_table(
            table, policy.routers, goal.gains_agreement(table), arrivals=arrivals, positive=goal.positive
        )
        found = best_thresholds(problem, goal.search_target(problem), QUICK_GRID)
        alone = problem.value(np.full(table.stages - 1, 2.0))[1]
        if found is not None and problem.value(found)[1] < (1 - LEAST_SAVING) * alone:
            return rows
    return None
