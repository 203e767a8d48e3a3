"""The value of stages, against all thresholds."""

import itertools

import numpy as np
import pytest

from cascade.calibration.routing_problem import RoutingProblem
from cascade.reports import stage_values
from cascade.routers import NEVER


def least_cost(problem, gain):
    """The cheapest of all combinations of thresholds."""
    candidates = [[*np.unique(column), NEVER] for column in problem.confidence.T]
    seen = [problem.value(np.array(thresholds)) for thresholds in itertools.product(*candidates)]
    return min((cost for own, cost in seen if own >= gain - 1e-9), default=np.nan)


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_costs_without_each_stage_equal_brute_force(make_replay, stages, seed):
    replay = make_replay(n=40, stages=stages, levels=8, seed=seed)
    problem = replay.problem()
    values = stage_values(problem, *problem.value(replay.policy.thresholds))
    assert values.gain == pytest.approx(replay.chosen_gain)
    assert values.cost == pytest.approx(least_cost(problem, values.gain))
    for stage in range(stages):
        others = tuple(k for k in range(stages) if k != stage)
        expected = least_cost(problem.select(others), values.gain)
        np.testing.assert_allclose(values.cost_without[stage], expected)
        assert values.pays[stage] == (not expected <= values.cost * (1 + 1e-9))


def test_a_stage_that_is_never_sure_does_not_pay_and_the_only_good_one_does():
    confidence = np.array([[0.1, 0.9]] * 4)
    gain = np.array([[0, 1, 1]] * 4, dtype=float)
    problem = RoutingProblem(confidence, gain, np.cumsum(np.full((4, 3), 2.0), axis=1))
    values = stage_values(problem, *problem.value(np.array([NEVER, 0.5])))
    # The second stage alone, or the last one alone, is all that is needed.
    assert (values.cost, values.cost_without.tolist()) == (2.0, [2.0, 2.0, 2.0])
    assert values.pays.tolist() == [False, False, False]
    useless_first = RoutingProblem(confidence[:, :1], gain[:, :2], problem.cost[:, :2])
    values = stage_values(useless_first, *useless_first.value(np.array([NEVER])))
    assert values.pays.tolist() == [False, True]
    assert np.isnan(values.cost_without[1])
