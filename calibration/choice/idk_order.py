"""The order of IDK classifiers with fixed rules: least expected time, within a deadline.

Baruah, Burns, Davis, Wu, "Optimally ordering IDK classifiers subject to deadlines", Real-Time Systems 59, 2023,
https://doi.org/10.1007/s11241-022-09383-w. There the classifiers are independent or fully dependent; here the joint
distribution of their acceptances is that of the given rows. The rows that remain after some classifiers do not depend
on their order, so dynamic programming over the 2^(M - 1) sets finds the optimum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.errors import InfeasibleTarget

__all__ = ["MOST_CLASSIFIERS", "IdkOrder", "optimal_order"]

MOST_CLASSIFIERS = 16


@dataclass(frozen=True)
class IdkOrder:
    """A cascade of classifiers with fixed rules.

    Attributes:
        order: indices of the classifiers; the deterministic one is the last.
        mean_cost: mean cost per row.
        worst_cost: cost of a row that runs through all of them, each at its highest cost.
    """

    order: tuple[int, ...]
    mean_cost: float
    worst_cost: float


def optimal_order(
    accepts: np.ndarray,
    cost: np.ndarray,
    *,
    hop_cost: float = 0.0,
    deadline: float | None = None,
    worst_cost: np.ndarray | None = None,
    price: Callable[[int, np.ndarray], np.ndarray] = lambda classifier, share: share,
) -> IdkOrder:
    """Selects and orders classifiers for the least mean cost until one accepts.

    O(M^2 2^M + n M) time, exact for any dependence between the classifiers.

    Args:
        accepts: (n, M - 1) bool, whether each classifier but the last accepts a row; the last one always does.
        cost: (M,) or (n, M) float >= 0.
        hop_cost: added for every classifier after the first that a row reaches.
        deadline: largest sum of ``worst_cost`` of the selected ones, with hops; the last one is always selected.
        worst_cost: (M,), at least the highest ``cost`` of each, which is the default.
        price: mean cost per row of a classifier from the mean of its ``cost`` over all rows, with 0 for rows that do
            not reach it; never falling.

    Raises:
        ValueError: the shapes do not fit, or there are more than ``MOST_CLASSIFIERS``.
        InfeasibleTarget: the last classifier alone misses the deadline.
    """
    n, others = accepts.shape
    if others + 1 > MOST_CLASSIFIERS:
        raise ValueError(f"at most {MOST_CLASSIFIERS} classifiers can be ordered exactly; got {others + 1}")
    if cost.shape not in ((others + 1,), (n, others + 1)):
        raise ValueError(f"cost must be {(others + 1,)} or {(n, others + 1)}; got {cost.shape}")
    row_cost = np.broadcast_to(cost, (n, others + 1))
    worst = row_cost.max(axis=0) if worst_cost is None else np.asarray(worst_cost, dtype=np.float64)
    longest = worst[-1] + _sums_over_sets(worst[:-1] + hop_cost)
    if deadline is not None and worst[-1] > deadline:
        raise InfeasibleTarget(f"the last classifier alone takes {worst[-1]:g} at worst, the deadline is {deadline:g}")
    next_cost = _mean_cost_after(accepts, np.column_stack([row_cost, np.ones(n)]))
    left = next_cost[:, -1:]
    next_cost = np.column_stack([price(m, share) for m, share in enumerate(next_cost[:, :-1].T)]) + hop_cost * left
    spent, last = _cheapest_orders(next_cost, hop_cost)
    total = spent + next_cost[:, -1]
    total[0] -= hop_cost  # the deterministic classifier alone is reached without a hop
    if deadline is not None:
        total[longest > deadline] = np.inf
    # Of equally good sets the smallest.
    best = min(range(len(total)), key=lambda chosen: (total[chosen], chosen.bit_count(), chosen))
    return IdkOrder((*_order_of(best, last), others), float(total[best]), float(longest[best]))


def _sums_over_sets(values: np.ndarray) -> np.ndarray:
    """(m,) -> (2^m,), the sum of the values in each set; bit i of an index is member i."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


def _mean_cost_after(accepts: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Mean of (n, C) costs, over all rows, of the rows that no classifier in a set accepts: (2^(M - 1), C).

    A row remains after a set if the classifiers that accept it are a subset of the set's complement: a histogram of the
    rows by accepting classifiers, summed over subsets.
    """
    n, others = accepts.shape
    pattern = accepts.astype(np.int64) @ (1 << np.arange(others, dtype=np.int64))
    sums = np.stack([np.bincount(pattern, weights=column, minlength=1 << others) for column in cost.T], axis=1)
    for member in range(others):
        halves = sums.reshape(-1, 2, 1 << member, cost.shape[1])
        halves[:, 1] += halves[:, 0]
    return np.asarray(sums[::-1] / n)  # the complement of set s has index 2^(M - 1) - 1 - s


def _cheapest_orders(next_cost: np.ndarray, hop_cost: float) -> tuple[np.ndarray, np.ndarray]:
    """For each set the mean cost of its best order (without a hop to its first), and the last member of that order."""
    sets, others = len(next_cost), next_cost.shape[1] - 1
    spent, last = np.zeros(sets), np.full(sets, -1)
    for chosen in range(1, sets):
        members = [m for m in range(others) if chosen >> m & 1]
        before = [chosen ^ (1 << m) for m in members]
        costs = spent[before] + next_cost[before, members]
        if before[0] == 0:
            costs = costs - hop_cost
        best = int(np.argmin(costs))
        spent[chosen], last[chosen] = costs[best], members[best]
    return spent, last


def _order_of(chosen: int, last: np.ndarray) -> tuple[int, ...]:
    order: list[int] = []
    while chosen:
        order.append(int(last[chosen]))
        chosen ^= 1 << order[-1]
    return tuple(reversed(order))
