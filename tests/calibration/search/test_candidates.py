"""Useful thresholds: for each other threshold one of them is as good in gain and cost."""

import itertools

import numpy as np
import pytest
from brute_force import all_points, problems, value
from hypothesis import given

from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.candidates import bins_of, thinned, useful_candidates
from cascade.routers import NEVER


@given(problems(most_rows=10))
def test_every_operating_point_is_matched_or_beaten_by_useful_thresholds(problem):
    candidates = useful_candidates(problem)
    useful = np.array([value(problem, thresholds) for thresholds in itertools.product(*candidates)])
    for gain, cost in all_points(problem):
        assert ((useful[:, 0] >= gain - 1e-9) & (useful[:, 1] <= cost + 1e-9)).any()
    for values, column in zip(candidates, problem.confidence.T, strict=True):
        assert values[0] == column.min()
        assert values[-1] == NEVER
        assert (np.diff(values) > 0).all()


def test_only_a_cut_above_a_row_that_gains_later_is_of_use():
    confidence = np.array([[0.1], [0.2], [0.3], [0.4], [0.5]])
    gain = np.array([[0, 1], [1, 1], [0, 1], [0, 0], [1, 0]], dtype=float)
    problem = RoutingProblem(confidence, gain, np.tile([1.0, 2.0], (5, 1)))
    assert useful_candidates(problem)[0].tolist() == [0.1, 0.2, 0.4, NEVER]


def test_thinning_keeps_both_ends():
    assert thinned(np.arange(100), 4).tolist() == [0, 33, 66, 99]
    assert thinned(np.arange(3), 4).tolist() == [0, 1, 2]


def test_a_row_reaches_the_candidates_before_its_bin():
    candidates = np.array([0.2, 0.5, NEVER])
    confidence = np.array([0.1, 0.2, 0.3, 0.5, 1.0])
    for row, b in zip(confidence, bins_of(candidates, confidence), strict=True):
        assert (row >= candidates).tolist() == [i < b for i in range(3)]
    assert bins_of(candidates, confidence) == pytest.approx([0, 1, 1, 2, 2])
