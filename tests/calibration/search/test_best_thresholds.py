"""The threshold search against brute force; one threshold moved, the others fixed, against plain loops."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from brute_force import all_points, distinct_problem, every_threshold, problems, value
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import frontier
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import (
    Target,
    _along,
    _best_of_three,
    _pair_at_its_best,
    best_thresholds,
)
from cascade.calibration.search.candidates import useful_candidates
from cascade.calibration.search.grid import LARGEST_GRID, Grid
from cascade.routers import NEVER

TOLERANCE = 1e-9


def targets_of(gain, cost, shares=(0.0, 0.25, 0.5, 0.9, 1.0)):
    """Targets of both kinds, from the easiest to the hardest that can be reached, and one beyond."""
    for share in shares:
        yield Target(least_gain=gain.min() + share * (gain.max() - gain.min()))
        yield Target(most_cost=cost.min() + share * (cost.max() - cost.min()))
    yield Target(least_gain=gain.max() + 1e-3)
    yield Target(most_cost=np.inf)


def assert_optimal(problem, target, thresholds, gain, cost, slack=0.0):
    """The thresholds reach the target, and are as good as the best of all points, but for a relative slack."""
    if target.least_gain is not None:
        reached = gain >= target.least_gain - TOLERANCE
        if not reached.any():
            assert thresholds is None
            return
        found_gain, found_cost = value(problem, thresholds, not problem.optional)
        assert found_gain >= target.least_gain - 2 * TOLERANCE
        assert found_cost <= cost[reached].min() * (1 + slack) + TOLERANCE
    else:
        found_gain, found_cost = value(problem, thresholds, not problem.optional)
        assert found_cost <= target.most_cost * (1 + TOLERANCE) + TOLERANCE
        kept = cost <= target.most_cost * (1 + TOLERANCE)
        assert found_gain >= gain[kept].max() * (1 - slack) - TOLERANCE
        if slack == 0:
            assert found_cost <= cost[kept & (gain >= gain[kept].max() - TOLERANCE)].min() + TOLERANCE


@given(problems(most_rows=12))
@settings(max_examples=80)
def test_small_problems_are_solved_exactly(problem):
    gain, cost = all_points(problem).T
    for target in targets_of(gain, cost):
        assert_optimal(problem, target, best_thresholds(problem, target), gain, cost)


@given(problems(least_stages=3, most_stages=3, most_rows=20))
@settings(max_examples=80)
def test_three_stages_narrowed_by_the_convex_frontier_lose_nothing(problem):
    problem = replace(problem, optional=False)
    gain, cost = all_points(problem, runs_all=True).T
    for target in targets_of(gain, cost):
        found = _best_of_three(problem, target, useful_candidates(problem), 10**6)
        assert_optimal(problem, target, found, gain, cost)


@pytest.mark.parametrize("seed", range(2))
def test_three_stages_of_many_distinct_confidences_are_solved_exactly(seed):
    problem = replace(distinct_problem(1500, 3, seed), optional=False)
    grid = Grid.of(problem, 10**9, every_threshold(problem))
    assert grid.gain.size == 1501**2
    gain, cost = grid.gain.ravel(), grid.cost.ravel()
    for target in targets_of(gain, cost):
        # So small a grid has room for what the convex frontier leaves, but not for all 165,000 useful combinations.
        assert_optimal(problem, target, best_thresholds(problem, target, 20_000), gain, cost)


@pytest.fixture(scope="module")
def four_stages():
    """A problem of four stages whose useful combinations are too many for a grid, and the grid of them all."""
    problem = distinct_problem(5000, 4)
    problem = RoutingProblem(np.round(problem.confidence * 150) / 150, problem.gain, problem.cost, optional=False)
    whole = Grid.of(problem, 10**9)
    assert whole.gain.size > LARGEST_GRID
    return problem, whole


def test_four_stages_beyond_the_grid_are_within_half_a_percent(four_stages):
    problem, whole = four_stages
    gain, cost = whole.gain.ravel(), whole.cost.ravel()
    for target in targets_of(gain, cost, shares=(0.7,)):
        assert_optimal(problem, target, best_thresholds(problem, target), gain, cost, slack=0.005)


@given(problems(least_stages=4, most_stages=4, most_rows=12), st.integers(0, 1))
def test_a_pair_of_thresholds_is_set_to_its_optimum(problem, k):
    problem = replace(problem, optional=False)
    every = every_threshold(problem)
    start = np.array([values[len(values) // 2] for values in every])
    gain, _ = value(problem, start, runs_all=True)
    target = Target(least_gain=gain)
    found = _pair_at_its_best(problem, target, start, k)
    others = [start[:1], start[1:2], start[2:]]
    for i in (k, k + 1):
        others[i] = every[i]
    points = np.array([value(problem, thresholds, runs_all=True) for thresholds in itertools.product(*others)])
    assert_optimal(problem, target, found, *points.T)
    assert found[2 - 2 * k] == start[2 - 2 * k]


def assert_frontier_within_half_a_percent(problem, points, whole):
    for point in points:
        assert problem.value(point.thresholds) == pytest.approx((point.gain, point.cost))
    gains, costs = np.array([(point.gain, point.cost) for point in points]).T
    assert (np.diff(gains) > 0).all()
    assert (np.diff(costs) > 0).all()
    for index in whole.frontier():
        gain, cost = whole.gain.flat[index], whole.cost.flat[index]
        assert gains[costs <= cost * 1.005].max() >= gain * 0.995


def test_a_frontier_of_four_stages_beyond_the_grid_is_within_half_a_percent(four_stages):
    problem, whole = four_stages
    assert_frontier_within_half_a_percent(problem, frontier(problem, 10**6), whole)


def test_a_frontier_of_three_stages_beyond_the_grid_is_within_half_a_percent():
    problem = replace(distinct_problem(3000, 3), optional=False)
    whole = Grid.of(problem, 10**9)
    assert whole.gain.size > 500_000
    assert_frontier_within_half_a_percent(problem, frontier(problem, 10**6, largest=50_000), whole)


@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 10_000), st.integers(1, 6))
def test_every_value_of_a_threshold_has_the_gain_and_cost_of_a_plain_loop(stages, n, seed, levels):
    random = np.random.default_rng(seed)
    confidence = random.integers(0, levels + 1, (n, stages - 1)) / levels
    cost = np.cumsum(random.uniform(0, 3, (n, stages)), axis=1)
    problem = RoutingProblem(confidence, random.uniform(0, 1, (n, stages)), cost, optional=False)
    thresholds = random.choice([0.0, 0.3, 0.5, 1.0, NEVER], stages - 1)
    for k in range(stages - 1):
        values, gain, cost_along = _along(problem, thresholds, k)
        assert {NEVER, thresholds[k]} <= set(values.tolist())
        for moved_to, g, c in zip(values, gain, cost_along, strict=True):
            moved = thresholds.copy()
            moved[k] = moved_to
            assert (g, c) == pytest.approx(problem.value(moved))
