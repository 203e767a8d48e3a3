"""Which batches are expected to be quick."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.serving.batching.latency_estimator import RESET_FACTOR, WINDOW, LatencyEstimator

QUICK_S = 0.002
BATCHES = st.lists(st.tuples(st.integers(1, 64), st.floats(0, 0.01)), max_size=30)


def estimator_after(batches, quick_s=QUICK_S):
    estimator = LatencyEstimator(quick_s)
    for rows, seconds in batches:
        estimator.add(rows, seconds)
    return estimator


def test_no_batch_is_quick_before_most_of_the_window_was():
    estimator = LatencyEstimator(QUICK_S)
    for _ in range(WINDOW // 2 + 1):
        assert not estimator.is_quick(1)
        estimator.add(1, 1e-4)
    assert estimator.is_quick(1)


@given(BATCHES)
def test_without_a_limit_no_batch_is_quick(batches):
    assert not estimator_after(batches, 0.0).is_quick(1)


@given(BATCHES, st.integers(1, 64), st.integers(0, 64))
def test_a_larger_batch_is_never_quicker(batches, rows, more):
    estimator = estimator_after(batches)
    assert estimator.is_quick(rows) or not estimator.is_quick(rows + more)


@pytest.mark.parametrize(("rows", "quick"), [(1, True), (4, True), (8, True), (9, False)])
def test_a_larger_batch_takes_time_in_proportion_and_a_smaller_one_as_much(rows, quick):
    assert estimator_after([(4, 0.001)] * WINDOW).is_quick(rows) is quick


def test_one_odd_batch_changes_nothing_but_one_that_hangs_does():
    quick = [(1, 1e-4)] * WINDOW
    assert estimator_after([*quick, (1, 10 * QUICK_S)]).is_quick(1)
    assert not estimator_after([*quick, (1, (RESET_FACTOR + 1) * QUICK_S)]).is_quick(1)


@given(BATCHES)
def test_the_estimate_follows_the_last_batches(batches):
    assert estimator_after([*batches, *[(1, 1e-4)] * WINDOW]).is_quick(2)
    assert not estimator_after([*batches, *[(1, 0.003)] * WINDOW]).is_quick(1)
