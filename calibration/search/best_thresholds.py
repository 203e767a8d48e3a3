"""The threshold search: the cheapest thresholds that gain enough, or the best within a budget."""

from dataclasses import dataclass, replace

import numpy as np

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import useful_candidates
from cascade.calibration.search.convex_frontier import edge_at, price_between
from cascade.calibration.search.grid import LARGEST_GRID, Grid
from cascade.calibration.search.three_stages import ThreeStages
from cascade.calibration.search.zoom import zoomed
from cascade.routers import ALWAYS, NEVER, accepted, answering_stage

__all__ = ["Target", "best_thresholds"]

STARTS = 8  # points of a coarse grid that are refined
PAIR_STARTS = 2  # of them, those whose thresholds are moved in pairs, which takes longer
PAIR_GRID = 300_000
ROUNDS = 20
LINEAR_ROUNDS = 4  # searches at the marginal costs of the last point found
NARROWINGS = 3
ROUNDING = 1e-9  # means of the same rows, summed in another order, differ by less

Candidates = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Target:
    """The target of a threshold search; the other quantity is optimised.

    Attributes:
        least_gain: mean gain in [0, 1] that must be reached at the lowest cost, or
        most_cost: mean cost that must not be exceeded at the highest gain.
    """

    least_gain: float | None = None
    most_cost: float | None = None

    def rank(self, gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Indices of the points that reach the target, best first.

        Args:
            gain: (m,).
            cost: (m,).
        """
        reached, main, second = self._keys(gain, cost)
        found = np.flatnonzero(reached)
        return np.asarray(found[np.lexsort((second[found], main[found]))])

    def best(self, gain: np.ndarray, cost: np.ndarray) -> int | None:
        """Index of the best point that reaches the target, if any does; arguments as of :meth:`rank`."""
        reached, main, second = self._keys(gain, cost)
        if not reached.any():
            return None
        equal = np.flatnonzero(reached & (main == main[reached].min()))
        return int(equal[np.argmin(second[equal])])

    def _keys(self, gain: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which points reach the target, and the two keys of their ranking, lowest first."""
        if self.gain_limit is not None:
            return gain >= self.gain_limit, cost, -gain
        return cost <= (self.cost_limit or 0.0), -gain, cost

    @property
    def gain_limit(self) -> float | None:
        """The least gain, with a tolerance for rounding."""
        return None if self.least_gain is None else self.least_gain - ROUNDING

    @property
    def cost_limit(self) -> float | None:
        """The highest cost, with a tolerance for rounding."""
        return None if self.most_cost is None else self.most_cost * (1 + ROUNDING)

    def within(self, rows: int, of: int, gain: float, cost: float) -> "Target":
        """The same target on some of the rows.

        Args:
            rows: their number, at least 1.
            of: number of all rows.
            gain: total gain of the other rows.
            cost: total cost of the other rows.
        """
        if self.least_gain is not None:
            return Target(least_gain=(self.least_gain * of - gain) / rows)
        return Target(most_cost=max(((self.most_cost or 0.0) * of - cost) / rows, 0.0))


def best_thresholds(problem: RoutingProblem, target: Target, largest: int = LARGEST_GRID) -> np.ndarray | None:
    """Searches thresholds, and the stages that run, on the empirical means.

    Every subset of the stages is searched (:meth:`~cascade.calibration.routing_problem.RoutingProblem.subsets`), and a
    stage outside the best one gets the threshold ``NEVER``. Only useful thresholds are considered
    (:func:`~cascade.calibration.search.candidates.useful_candidates`). Where all their combinations fit a grid, as they
    always do for two stages, the result is exact. Beyond that:

    - For three stages at constant costs per row, thresholds that the convex frontier rules out are removed first, after
      which the rest usually fits a grid at any number of rows.
    - More stages start from the best points of a coarse grid; then each pair of neighbouring thresholds is set to its
      optimum, until none moves.
    - At prices that depend on the reach shares, the same searches run a few times at the marginal costs of the last
      point found; their results, and the best points of a coarse grid at the true prices, are refined at the true ones.

    Args:
        problem: n rows, K stages.
        target: of the search.
        largest: bound on the number of combinations in a grid.

    Returns:
        (K - 1,) thresholds, or ``None`` if none that reach the target were found.
    """
    found = []
    for stages in problem.subsets():
        running = replace(problem.select(stages), optional=False)
        thresholds = _best_of_running(running, target, largest)
        if thresholds is not None:
            found.append(problem.widened(stages, thresholds))
    return _best(problem, target, found) if found else None


def _best_of_running(problem: RoutingProblem, target: Target, largest: int) -> np.ndarray | None:
    """The best thresholds of a cascade of which all stages run."""
    candidates = useful_candidates(problem)
    if len(candidates) < 2 or np.prod([len(c) for c in candidates], dtype=float) <= largest:
        return _best_on_grid(problem, target, candidates, largest)
    if problem.prices is not None:
        return _best_at_prices(problem, target, candidates, largest)
    if len(candidates) == 2:
        return _best_of_three(problem, target, candidates, largest)
    return _best_of_many(problem, target, candidates, largest)


def _best_at_prices(problem: RoutingProblem, target: Target, candidates: Candidates, largest: int) -> np.ndarray | None:
    grid = Grid.of(problem, largest, candidates)
    ranked = target.rank(grid.gain.ravel(), grid.cost.ravel())
    starts = [grid.thresholds(index) for index in _spread(ranked)] if len(ranked) else []
    found = [_zoom(problem, target, candidates, grid, start) for start in starts]
    thresholds = starts[0] if starts else np.full(len(candidates), ALWAYS)
    for _ in range(LINEAR_ROUNDS):
        linear = _best_of_running(problem.priced_at(thresholds), target, largest)
        if linear is None:
            break
        if _reached(problem, target, linear):
            found.append(_refine(problem, target, linear.copy()))
        if np.array_equal(linear, thresholds):
            break
        thresholds = linear
    return _best(problem, target, found) if found else None


def _best_on_grid(problem: RoutingProblem, target: Target, candidates: Candidates, largest: int) -> np.ndarray | None:
    grid = Grid.of(problem, largest, candidates)
    index = target.best(grid.gain.ravel(), grid.cost.ravel())
    return None if index is None else grid.thresholds(index)


def _best_of_three(problem: RoutingProblem, target: Target, candidates: Candidates, largest: int) -> np.ndarray | None:
    """The best of three stages whose combinations are too many for a grid, bounded by a Lagrangian.

    Thresholds that reach the target and are not worse than the best so far have, at any price of gain, a value of at
    least :func:`_least_worth`. So a threshold whose value is below that with its best partner is dropped, and the rest
    goes on a grid. The price of the frontier near the target drops most. If the rest is still too large, the best point
    of a thinned grid raises the bound.
    """
    stages = ThreeStages(problem, candidates)
    low, high = edge_at(stages, least_gain=target.gain_limit, most_cost=target.cost_limit)
    corner = high if target.least_gain is not None else low
    best = np.array([c[i] for c, i in zip(candidates, corner.place, strict=True)])
    if not _reached(problem, target, best):
        # The whole frontier lies below the target: this corner is its nearest end.
        return None
    if low == high:
        return best
    price = price_between(low, high)
    worth = stages.worth_of_first(price), stages.worth_of_second(price)
    for _ in range(NARROWINGS):
        best = _refine(problem, target, best)
        narrow = _narrowed(candidates, worth, _least_worth(problem, target, price, best))
        found = _best_on_grid(problem, target, narrow, largest)
        best = _best(problem, target, [best] if found is None else [best, found])
        if np.prod([len(c) for c in narrow], dtype=float) <= largest:
            break
    return best


def _least_worth(problem: RoutingProblem, target: Target, price: float, found: np.ndarray) -> float:
    """Least value, at a price, of thresholds that reach the target and are not worse than those found."""
    gain, cost = problem.value(found)
    gain = gain if target.gain_limit is None else target.gain_limit
    cost = cost if target.cost_limit is None else target.cost_limit
    return price * gain - cost - ROUNDING * (price + cost)


def _narrowed(candidates: Candidates, worth: Candidates, least: float) -> Candidates:
    """The candidates with a sufficient value at the best other threshold, and both ends."""
    kept = []
    for values, worths in zip(candidates, worth, strict=True):
        enough = worths >= least
        enough[[0, -1]] = True
        kept.append(values[enough])
    return tuple(kept)


def _best_of_many(problem: RoutingProblem, target: Target, candidates: Candidates, largest: int) -> np.ndarray | None:
    grid = Grid.of(problem, largest, candidates)
    ranked = target.rank(grid.gain.ravel(), grid.cost.ravel())
    if len(ranked):
        starts = [_zoom(problem, target, candidates, grid, grid.thresholds(index)) for index in _spread(ranked)]
    elif target.least_gain is not None:
        # A gain that no cell of a coarse grid reaches may still be reached between the cells.
        highest = _best_of_many(problem, Target(most_cost=np.inf), candidates, largest)
        starts = [] if highest is None or not _reached(problem, target, highest) else [highest]
    else:
        starts = []
    if not starts:
        return None
    order = target.rank(*np.array([problem.value(start) for start in starts]).T)
    return _best(problem, target, [_refine_pairs(problem, target, starts[i]) for i in order[:PAIR_STARTS]])


def _zoom(
    problem: RoutingProblem, target: Target, candidates: Candidates, grid: Grid, thresholds: np.ndarray
) -> np.ndarray:

    def choose(finer: Grid) -> int | None:
        return target.best(finer.gain.ravel(), finer.cost.ravel())

    for finer, index in zoomed(problem, candidates, grid, thresholds, choose):
        thresholds = finer.thresholds(index)
    return _refine(problem, target, thresholds)


def _reached(problem: RoutingProblem, target: Target, thresholds: np.ndarray) -> bool:
    gain, cost = problem.value(thresholds)
    return target.best(np.array([gain]), np.array([cost])) is not None


def _refine_pairs(problem: RoutingProblem, target: Target, thresholds: np.ndarray) -> np.ndarray:
    """Sets each pair of neighbouring thresholds to its optimum, the others fixed, until none moves."""
    value = problem.value(thresholds)
    for _ in range(ROUNDS):
        before = value
        for k in range(len(thresholds) - 1):
            thresholds = _pair_at_its_best(problem, target, thresholds, k)
        value = problem.value(thresholds)
        if np.allclose(before, value, rtol=ROUNDING, atol=0.0):
            break
    return thresholds


def _pair_at_its_best(problem: RoutingProblem, target: Target, thresholds: np.ndarray, k: int) -> np.ndarray:
    """Thresholds k and k + 1 decide between three stages for a row that reaches them: k, k + 1 and the later ones."""
    stage = answering_stage(problem.confidence[:, :k], thresholds[:k])
    reaching = stage == k
    rows = np.flatnonzero(reaching)
    if not len(rows):
        return thresholds
    gone = np.flatnonzero(~reaching)
    later = answering_stage(problem.confidence[rows, k + 2 :], thresholds[k + 2 :]) + k + 2
    choice = np.stack([np.full(len(rows), k), np.full(len(rows), k + 1), later], axis=1)
    part = RoutingProblem(
        problem.confidence[rows, k : k + 2],
        problem.gain[rows[:, None], choice],
        problem.cost[rows[:, None], choice],
        optional=False,
    )
    gain, cost = problem.gain[gone, stage[gone]].sum(), problem.cost[gone, stage[gone]].sum()
    pair = best_thresholds(part, target.within(len(rows), len(stage), gain, cost), PAIR_GRID)
    if pair is None:
        return thresholds
    moved = thresholds.copy()
    moved[k : k + 2] = pair
    return _best(problem, target, [thresholds, moved])


def _spread(ranked: np.ndarray) -> np.ndarray:
    """The best points, and some further down, near which another optimum may lie."""
    places = np.unique(np.geomspace(1, len(ranked), STARTS).astype(int)) - 1
    return np.asarray(ranked[places])


def _refine(problem: RoutingProblem, target: Target, thresholds: np.ndarray) -> np.ndarray:
    for _ in range(ROUNDS):
        before = thresholds.copy()
        for k in range(len(thresholds)):
            values, gain, cost = _along(problem, thresholds, k)
            index = target.best(gain, cost)
            if index is not None:
                thresholds[k] = values[index]
        if np.array_equal(before, thresholds):
            break
    return thresholds


def _along(problem: RoutingProblem, thresholds: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean gain and cost for every value of threshold k, the others fixed: O(n log n).

    Returns:
        (values, gain, cost), one entry for each distinct confidence that reaches stage k, for ``NEVER`` and for the
        present value.
    """
    n = len(problem.confidence)
    reached = np.ones(n, dtype=bool)
    for earlier in range(k):
        reached &= ~accepted(problem.confidence[:, earlier], thresholds[earlier])
    later = answering_stage(problem.confidence[:, k + 1 :], thresholds[k + 1 :]) + k + 1
    stage = np.where(reached, later, answering_stage(problem.confidence[:, :k], thresholds[:k]))[:, None]
    order = np.flatnonzero(reached)
    order = order[np.argsort(-problem.confidence[order, k], kind="stable")]
    values = problem.confidence[order, k]
    last_of_ties = np.append(values[1:] != values[:-1], True)[: len(values)]
    gain = _running_mean(problem.gain, stage, order, k)[last_of_ties]
    if problem.prices is None or problem.work is None:
        cost = _running_mean(problem.cost, stage, order, k)[last_of_ties]
    else:
        cost = np.full(len(gain), 0.0)
        for j in range(problem.stages):
            work = problem.work[:, j] * (stage[:, 0] >= j) / n
            left = np.cumsum(work[order])[last_of_ties] if j > k else 0.0
            cost += problem.prices.of_stage(j, np.maximum(work.sum() - left, 0.0))
    # The threshold NEVER, of a stage that runs all the same.
    never = problem.value(np.where(np.arange(len(thresholds)) == k, NEVER, thresholds))
    now = problem.value(thresholds)
    return (
        np.concatenate([values[last_of_ties], [NEVER, thresholds[k]]]),
        np.concatenate([gain, [never[0], now[0]]]),
        np.concatenate([cost, [never[1], now[1]]]),
    )


def _running_mean(weight: np.ndarray, stage: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    """Mean of (n, K) weights over all rows, as stage k answers one more row after the other, in an order."""
    otherwise = np.take_along_axis(weight, stage, axis=1)[:, 0]
    return np.asarray((np.cumsum(weight[order, k] - otherwise[order]) + otherwise.sum()) / len(weight))


def _best(problem: RoutingProblem, target: Target, found: list[np.ndarray]) -> np.ndarray:
    """The best of several thresholds; the first of them reach the target."""
    index = target.best(*np.array([problem.value(thresholds) for thresholds in found]).T)
    return found[index or 0]
