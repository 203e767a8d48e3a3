"""The grid of all threshold combinations, and its frontier, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import frontier
from cascade.calibration.grid import Grid
from cascade.calibration.routing_problem import RoutingProblem
from cascade.routers import NEVER


@st.composite
def problems(draw, most_stages=4):
    """Few distinct confidences, so that ties are common; costs of each row; gains that need not be 0 or 1."""
    stages, n = draw(st.integers(1, most_stages)), draw(st.integers(1, 15))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = draw(st.integers(1, 5))
    confidence = random.integers(0, levels + 1, (n, stages - 1)) / levels
    cost = np.cumsum(random.uniform(0, 3, (n, stages)), axis=1)
    return RoutingProblem(confidence, random.uniform(0, 1, (n, stages)), cost)


def value(problem, thresholds):
    """Mean gain and cost, row by row."""
    gain = cost = 0.0
    for i, row in enumerate(problem.confidence):
        accepting = [k for k, threshold in enumerate(thresholds) if row[k] >= threshold]
        stage = accepting[0] if accepting else len(thresholds)
        gain, cost = gain + problem.gain[i, stage], cost + problem.cost[i, stage]
    return gain / len(problem.confidence), cost / len(problem.confidence)


@given(problems())
def test_every_cell_of_the_grid_is_the_mean_over_the_rows(problem):
    grid = Grid.of(problem)
    for k, candidates in enumerate(grid.candidates):
        assert candidates.tolist() == [*sorted(set(problem.confidence[:, k].tolist())), NEVER]
    for index, thresholds in enumerate(itertools.product(*grid.candidates)):
        assert grid.thresholds(index).tolist() == list(thresholds)
        assert (grid.gain.flat[index], grid.cost.flat[index]) == pytest.approx(value(problem, thresholds))
        assert problem.value(np.array(thresholds)) == pytest.approx(value(problem, thresholds))


@given(problems(), st.integers(1, 30))
def test_a_coarse_grid_is_bounded_and_still_exact_at_its_cells(problem, largest):
    grid = Grid.of(problem, largest)
    axes = problem.confidence.shape[1]
    if axes > 1:
        assert grid.gain.size <= max(largest, 2**axes)
    for index, thresholds in enumerate(itertools.product(*grid.candidates)):
        assert (grid.gain.flat[index], grid.cost.flat[index]) == pytest.approx(value(problem, thresholds))
    assert all(column.min() == c[0] for c, column in zip(grid.candidates, problem.confidence.T, strict=True))


@given(problems(most_stages=3))
def test_the_frontier_holds_what_nothing_beats(problem):
    points = frontier(problem)
    for point in points:
        assert problem.value(point.thresholds) == pytest.approx((point.gain, point.cost))
    costs, gains = [point.cost for point in points], [point.gain for point in points]
    assert costs == sorted(costs)
    assert gains == sorted(gains)
    everything = [value(problem, thresholds) for thresholds in itertools.product(*Grid.of(problem).candidates)]
    for gain, cost in everything:
        assert any(g >= gain - 1e-9 and c <= cost + 1e-9 for g, c in zip(gains, costs, strict=True))
    for g, c in zip(gains, costs, strict=True):
        assert not any(gain > g + 1e-9 and cost < c - 1e-9 for gain, cost in everything)


def test_a_long_frontier_is_thinned_but_keeps_both_ends():
    random = np.random.default_rng(0)
    confidence = random.random((500, 1))
    gain = np.stack([confidence[:, 0], np.ones(500)], axis=1)
    problem = RoutingProblem(confidence, gain, np.tile([1.0, 5.0], (500, 1)))
    whole, thinned = frontier(problem, 10_000), frontier(problem, 20)
    assert len(whole) > 400
    assert len(thinned) == 20
    for end in (0, -1):
        assert (thinned[end].gain, thinned[end].cost) == (whole[end].gain, whole[end].cost)
