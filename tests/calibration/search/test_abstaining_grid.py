"""Thresholds of cascades that may abstain, against brute force over all of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import Identity, InfeasibleTarget, Policy, calibrate, evaluate
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.abstaining_grid import AbstainingGrid, Limits, abstaining_candidates, best_abstaining
from cascade.calibration.search.grid import Grid
from cascade.errors import ScoreTableError
from cascade.routers import Router
from cascade.routers.kernel import NEVER

ROUNDING = 1e-9
ROUTER = Router(None, Identity())


def all_points(table):
    """(accuracy of the answered rows, abstained share, mean cost) of all thresholds that differ, by loops over rows."""
    cost = np.broadcast_to(table.cost, table.prediction.shape)
    candidates = [[*np.unique(column), NEVER] for column in table.confidence.T]
    candidates[-1].append(0.0)
    points = []
    for thresholds in itertools.product(*candidates):
        right = answered = paid = 0
        for row in range(len(table)):
            stage = 0
            while stage < table.stages - 1 and table.confidence[row, stage] < thresholds[stage]:
                stage += 1
            paid += sum(cost[row, k] for k in range(stage + 1) if k == table.stages - 1 or thresholds[k] <= 1)
            if stage == table.stages - 1 and table.confidence[row, stage] < thresholds[stage]:
                continue
            answered += 1
            right += table.prediction[row, stage] == table.label[row]
        points.append((right / answered if answered else 0.0, 1 - answered / len(table), paid / len(table)))
    return np.array(points)


@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(0, 1000),
    st.sampled_from([2, 4]),
    st.sampled_from([0.1, 0.3, 0.6]),
    st.booleans(),
)
def test_the_search_equals_brute_force(make_table, n, stages, seed, levels, most, row_cost):
    table = make_table(n, stages, seed, levels, row_cost=row_cost)
    accuracy, abstained, cost = all_points(table).T
    allowed = abstained <= most + ROUNDING
    for target in (0.3, 0.8, 1.0):
        reached = allowed & (accuracy >= target - ROUNDING)
        if not reached.any():
            with pytest.raises(InfeasibleTarget) as caught:
                calibrate(table, target_accuracy=target, max_abstain=most, guarantee="none")
            assert caught.value.nearest == pytest.approx(accuracy[allowed].max())
            continue
        seen = evaluate(table, calibrate(table, target_accuracy=target, max_abstain=most, guarantee="none"))
        assert seen.mean_cost == pytest.approx(cost[reached].min())
        assert seen.accuracy >= target - ROUNDING
        assert seen.abstained <= most + ROUNDING
    budget = float(np.median(cost)) + ROUNDING
    seen = evaluate(table, calibrate(table, max_cost=budget, max_abstain=most, guarantee="none"))
    assert seen.accuracy == pytest.approx(accuracy[allowed & (cost <= budget)].max())
    assert seen.mean_cost <= budget * (1 + ROUNDING)
    assert seen.abstained <= most + ROUNDING


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 1000))
def test_every_point_of_the_grid_equals_a_replay(make_table, n, stages, seed):
    table = make_table(n, stages, seed, 4)
    problem = RoutingProblem.from_table(table, (ROUTER,) * stages, False, abstains=True)
    grid = Grid.of(problem, 200, abstaining_candidates(problem, Limits(0.5, 0.7)))
    points = AbstainingGrid.of(problem, grid)
    for place in range(0, grid.gain.size, max(1, grid.gain.size // 7)):
        *thresholds, below = grid.thresholds(place)
        policy = Policy(tuple(map(str, table.stage)), (ROUTER,) * stages, thresholds, abstain_below=float(below))
        seen = evaluate(table, policy)
        assert points.abstained[place] == pytest.approx(seen.abstained)
        # On the grid all stages run, also one that answers no row.
        least = seen.mean_cost if (np.array(thresholds) > 1).any() else pytest.approx(seen.mean_cost)
        assert points.cost[place] >= least - 1e-9 if isinstance(least, float) else points.cost[place] == least
        assert points.accuracy[place] == pytest.approx(seen.accuracy or 0.0)


def test_a_finer_search_finds_points_between_those_of_the_first_grid(make_table, monkeypatch):
    table = make_table(400, 3, seed=5)
    problem = RoutingProblem.from_table(table, (ROUTER,) * 3, False, abstains=True)
    limits = Limits(0.2, 0.9)
    exact = problem.value(best_abstaining(problem, limits))[1]
    monkeypatch.setattr("cascade.calibration.search.abstaining_grid.LARGEST_GRID", 2000)
    found = best_abstaining(problem, limits)
    coarse = Grid.of(problem, 2000, abstaining_candidates(problem, limits))
    first = coarse.cost.flat[AbstainingGrid.of(problem, coarse).best(limits)]
    assert exact <= problem.value(found)[1] <= exact + 0.5 * (first - exact)


def test_a_target_that_needs_no_abstaining_does_not_abstain(make_table):
    table = make_table(200, 2, seed=1)
    policy = calibrate(table, target_accuracy=0.0, max_abstain=0.5, guarantee="none")
    assert policy.abstain_below == 0.0
    assert policy == calibrate(table, target_accuracy=0.0, max_abstain=0.5, guarantee="none")


def test_none_at_all_is_the_same_as_no_limit(make_table):
    table = make_table(300, 3, seed=2)
    target = {"target_accuracy": 0.8, "guarantee": "none"}
    assert calibrate(table, max_abstain=0.0, **target) == calibrate(table, **target)


def test_a_budget_too_small_and_an_accuracy_too_high_are_refused_differently(make_table):
    table = make_table(300, 2, seed=3)
    with pytest.raises(InfeasibleTarget, match="the nearest budget") as caught:
        calibrate(table, target_accuracy=0.9, max_cost=1.0, max_abstain=0.1, guarantee="none")
    within = calibrate(
        table, target_accuracy=0.9, max_cost=caught.value.nearest + 1e-6, max_abstain=0.1, guarantee="none"
    )
    assert evaluate(table, within).mean_cost == pytest.approx(caught.value.nearest)
    with pytest.raises(InfeasibleTarget, match=r"costs at most 0\.5"):
        calibrate(table, max_cost=0.5, max_abstain=0.1, guarantee="none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_accuracy": 0.9, "max_abstain": 1.0}, r"in \[0, 1\); got 1.0"),
        ({"target_accuracy": 0.9, "max_abstain": -0.1}, r"in \[0, 1\); got -0.1"),
        ({"target_accuracy": 0.9, "max_abstain": float("nan")}, "got nan"),
        ({"max_accuracy_drop": 0.1, "max_abstain": 0.1}, "goes with target_accuracy or max_cost"),
        ({"target_agreement": 0.9, "max_abstain": 0.1}, "cannot help"),
        ({"target_accuracy": 0.9, "max_abstain": 0.1, "early_deferral": True}, "cannot be searched together"),
        ({"max_abstain": 0.1}, "give one of"),
    ],
)
def test_arguments_that_cannot_be_combined_are_refused(make_table, arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(make_table(50, 2), **arguments)


def test_without_labels_there_is_no_reason_to_abstain(make_table):
    with pytest.raises(ScoreTableError, match="label"):
        calibrate(make_table(50, 2, labels=False), max_cost=5.0, max_abstain=0.1)
