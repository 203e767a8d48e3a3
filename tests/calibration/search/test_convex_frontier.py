"""Three stages at a price, and the convex frontier, against brute force."""

import itertools

import numpy as np
import pytest
from brute_force import all_points, distinct_problem, every_threshold, problems, value
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration.search.candidates import useful_candidates
from cascade.calibration.search.convex_frontier import convex_frontier, edge_at
from cascade.calibration.search.grid import Grid
from cascade.calibration.search.three_stages import ThreeStages

PRICES = (0.0, 0.3, 2.0, 17.0, 1e4)

three_stages = problems(least_stages=3, most_stages=3)


def thresholds_at(candidates, choice):
    return np.array([values[i] for values, i in zip(candidates, choice.place, strict=True)])


@given(three_stages)
def test_at_a_price_each_threshold_has_its_best_partner(problem):
    candidates = every_threshold(problem)
    stages = ThreeStages(problem, candidates)
    shape = tuple(len(values) for values in candidates)
    gain, cost = (column.reshape(shape) for column in all_points(problem, runs_all=True).T)
    for price in PRICES:
        worth = price * gain - cost
        assert stages.worth_of_first(price) == pytest.approx(worth.max(axis=1))
        assert stages.worth_of_second(price) == pytest.approx(worth.max(axis=0))
        best = stages.best(price)
        assert worth[best.place] == pytest.approx(worth.max())
        assert (best.gain, best.cost) == pytest.approx((gain[best.place], cost[best.place]))


@given(three_stages)
def test_the_convex_frontier_is_the_optimum_at_every_price(problem):
    candidates = useful_candidates(problem)
    corners = convex_frontier(ThreeStages(problem, candidates))
    points = all_points(problem, runs_all=True)
    gain, cost = np.array([(corner.gain, corner.cost) for corner in corners]).T
    for corner in corners:
        assert value(problem, thresholds_at(candidates, corner), runs_all=True) == pytest.approx(
            (corner.gain, corner.cost)
        )
    # The prices at which the optimum changes are those between corners, so these and some others suffice.
    between = np.diff(cost) / np.diff(gain)
    assert (between > -1e-9).all()
    assert (np.diff(between) > -1e-6).all(), "the price of gain rises"
    for price in (*PRICES, *between):
        best = (price * points[:, 0] - points[:, 1]).max()
        assert (price * gain - cost).max() == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert gain.max() == pytest.approx(points[:, 0].max())
    assert cost.min() == pytest.approx(points[:, 1].min())


def test_the_convex_frontier_of_many_rows_is_that_of_the_whole_grid():
    problem = distinct_problem(1200, 3)
    corners = convex_frontier(ThreeStages(problem, useful_candidates(problem)))
    assert len(corners) > 20
    grid = Grid.of(problem, 10**9, every_threshold(problem))
    assert grid.gain.size > 10**6
    for low, high in itertools.pairwise(corners):
        price = (high.cost - low.cost) / (high.gain - low.gain)
        assert price * low.gain - low.cost == pytest.approx((price * grid.gain - grid.cost).max())


def test_few_prices_give_corners_of_the_same_frontier():
    problem = distinct_problem(3000, 3)
    stages = ThreeStages(problem, useful_candidates(problem))
    some, every = convex_frontier(stages, 10), convex_frontier(stages)
    assert 5 < len(some) <= 12 < len(every)
    assert set(some) <= set(every)


@given(three_stages, st.floats(0, 1))
def test_a_target_lies_between_the_corners_of_its_edge(problem, share):
    stages = ThreeStages(problem, useful_candidates(problem))
    corners = convex_frontier(stages)
    least = corners[0].gain + share * (corners[-1].gain - corners[0].gain)
    low, high = edge_at(stages, least_gain=least)
    assert high.gain >= least - 1e-9
    assert low == high or low.gain < least
    most = corners[0].cost + share * (corners[-1].cost - corners[0].cost)
    low, high = edge_at(stages, most_cost=most)
    assert low.cost <= most + 1e-9
    assert low == high or high.cost > most
