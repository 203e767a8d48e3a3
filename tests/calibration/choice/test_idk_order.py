"""The order of IDK classifiers against all subsets in all orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, optimal_order
from cascade.calibration.choice.idk_order import MOST_CLASSIFIERS


def mean_cost(order, sure, cost, hop_cost):
    """Row by row: run classifiers until one accepts; the last one always does."""
    total = 0.0
    for row in range(len(sure)):
        for place, k in enumerate(order):
            total += cost[row, k] + (hop_cost if place else 0.0)
            if k == cost.shape[1] - 1 or sure[row, k]:
                break
    return total / len(sure)


@given(
    st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([0.0, 0.7]), st.booleans(),
    st.sampled_from([None, 0.4, 0.7]),
)  # fmt: skip
def test_no_subset_in_any_order_is_cheaper(models, n, seed, hop_cost, row_cost, share):
    random = np.random.default_rng(seed)
    sure = random.random((n, models - 1)) < random.random(models - 1)
    cost = random.integers(1, 5, (n, models) if row_cost else models).astype(float)
    table = np.broadcast_to(cost, (n, models))
    worst = table.max(axis=0)
    deadline = None if share is None else worst[-1] + share * (worst[:-1] + hop_cost).sum()
    found = optimal_order(sure, cost, hop_cost=hop_cost, deadline=deadline)
    costs = {}
    for size in range(models):
        for chosen in itertools.permutations(range(models - 1), size):
            order = (*chosen, models - 1)
            if deadline is None or worst[list(order)].sum() + hop_cost * size <= deadline + 1e-9:
                costs[order] = mean_cost(order, sure, table, hop_cost)
    assert found.mean_cost == pytest.approx(min(costs.values()))
    assert found.mean_cost == pytest.approx(costs[found.order])
    assert found.worst_cost == pytest.approx(worst[list(found.order)].sum() + hop_cost * (len(found.order) - 1))


def test_the_more_expensive_classifier_goes_first_where_it_accepts_many_more_rows():
    sure = np.zeros((10, 2), dtype=bool)
    sure[:3, 0] = sure[3:9, 1] = True
    found = optimal_order(sure, np.array([1.0, 1.5, 10.0]))
    assert found.order == (1, 0, 2)
    assert found.mean_cost == pytest.approx(1.5 + 0.4 * 1.0 + 0.1 * 10.0)


def test_dependence_matters_and_not_only_how_often_each_accepts():
    # Both accept half the rows, the same half, so the more expensive one has nothing left to do.
    sure = np.repeat([[True, True], [False, False]], 5, axis=0)
    assert optimal_order(sure, np.array([1.0, 2.0, 10.0])).order == (0, 2)
    sure[:, 1] = ~sure[:, 1]
    assert optimal_order(sure, np.array([1.0, 2.0, 10.0])).order == (0, 1, 2)


def test_a_classifier_that_never_accepts_is_left_out_and_the_smallest_of_equals_is_taken():
    assert optimal_order(np.zeros((4, 3), dtype=bool), np.array([0.0, 1.0, 0.0, 5.0])).order == (3,)


def test_one_classifier_needs_no_order():
    found = optimal_order(np.zeros((3, 0), dtype=bool), np.array([2.0]), deadline=2.0)
    assert (found.order, found.mean_cost, found.worst_cost) == ((0,), 2.0, 2.0)


def test_a_deadline_takes_the_cheapest_that_fits():
    sure = np.array([[True, False], [False, True], [True, True], [False, True]])
    cost = np.array([1.0, 1.0, 10.0])
    assert set(optimal_order(sure, cost).order) == {0, 1, 2}
    found = optimal_order(sure, cost, deadline=11.5)
    assert found.order == (1, 2)
    assert found.worst_cost == 11.0
    assert optimal_order(sure, cost, deadline=11.5, worst_cost=np.array([1.0, 2.0, 10.0])).order == (0, 2)
    assert optimal_order(sure, cost, deadline=11.5, hop_cost=0.6).order == (2,)
    with pytest.raises(InfeasibleTarget, match="the last classifier alone takes 10 at worst, the deadline is 9"):
        optimal_order(sure, cost, deadline=9)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"cost must be \(3,\) or \(4, 3\); got \(2,\)"):
        optimal_order(np.zeros((4, 2), dtype=bool), np.ones(2))
    with pytest.raises(ValueError, match="at most 16 classifiers"):
        optimal_order(np.zeros((4, MOST_CLASSIFIERS), dtype=bool), np.ones(MOST_CLASSIFIERS + 1))
