"""The grid of all threshold combinations, and its frontier, against brute force."""

import itertools

import numpy as np
import pytest
from brute_force import all_points, every_threshold, problems, value
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import frontier
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.grid import Grid, fitting


@given(problems())
def test_every_cell_of_the_grid_is_the_mean_over_the_rows(problem):
    grid = Grid.of(problem, candidates=every_threshold(problem))
    for index, thresholds in enumerate(itertools.product(*grid.candidates)):
        assert grid.thresholds(index).tolist() == list(thresholds)
        running = pytest.approx(value(problem, thresholds, runs_all=True))
        assert (grid.gain.flat[index], grid.cost.flat[index]) == running
        assert problem.value(np.array(thresholds)) == pytest.approx(value(problem, thresholds))


def test_a_short_axis_leaves_its_room_to_the_long_ones():
    axes = tuple(np.arange(length, dtype=float) for length in (1000, 2, 1000))
    assert [len(axis) for axis in fitting(axes, 1800)] == [30, 2, 30]
    assert [len(axis) for axis in fitting(axes, 10**9)] == [1000, 2, 1000]
    assert len(fitting(axes[:1], 10)[0]) == 1000, "a single axis is never thinned"


@given(problems(), st.integers(1, 30))
def test_a_coarse_grid_is_bounded_and_still_exact_at_its_cells(problem, largest):
    grid = Grid.of(problem, largest)
    axes = problem.confidence.shape[1]
    if axes > 1:
        assert grid.gain.size <= max(largest, 2**axes)
    for index, thresholds in enumerate(itertools.product(*grid.candidates)):
        running = pytest.approx(value(problem, thresholds, runs_all=True))
        assert (grid.gain.flat[index], grid.cost.flat[index]) == running
    assert all(column.min() == c[0] for c, column in zip(grid.candidates, problem.confidence.T, strict=True))


@given(problems(most_stages=3))
def test_the_frontier_has_the_points_that_no_other_dominates(problem):
    points = frontier(problem)
    for point in points:
        assert problem.value(point.thresholds) == pytest.approx((point.gain, point.cost))
    costs, gains = [point.cost for point in points], [point.gain for point in points]
    assert costs == sorted(costs)
    assert gains == sorted(gains)
    everything = all_points(problem)
    for gain, cost in everything:
        assert any(g >= gain - 1e-9 and c <= cost + 1e-9 for g, c in zip(gains, costs, strict=True))
    for g, c in zip(gains, costs, strict=True):
        assert not any(gain > g + 1e-9 and cost < c - 1e-9 for gain, cost in everything)


def test_a_long_frontier_is_thinned_but_keeps_both_ends():
    random = np.random.default_rng(0)
    confidence = random.random((500, 1))
    gain = np.stack([confidence[:, 0], np.ones(500)], axis=1)
    problem = RoutingProblem(confidence, gain, np.tile([1.0, 5.0], (500, 1)), optional=False)
    whole, thinned = frontier(problem, 10_000), frontier(problem, 20)
    assert len(whole) > 400
    assert len(thinned) == 20
    for end in (0, -1):
        assert (thinned[end].gain, thinned[end].cost) == (whole[end].gain, whole[end].cost)
