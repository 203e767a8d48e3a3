"""The routing kernel: which rows a stage answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.routers import (
    ALWAYS,
    NEVER,
    abstained,
    accepted,
    answering_stage,
    deferred_early,
    reached_stages,
    running_stages,
)

UNIT = st.floats(0, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_always_accepts_all_and_never_accepts_none(dtype):
    confidence = np.array([0.0, 5e-8, 0.5, 1.0], dtype=dtype)
    assert accepted(confidence, ALWAYS).all()
    assert not accepted(confidence, NEVER).any()
    assert (answering_stage(confidence[:, None], np.array([ALWAYS])) == 0).all()
    assert (answering_stage(confidence[:, None], np.array([NEVER])) == 1).all()


@pytest.mark.parametrize("threshold", [ALWAYS, 0.5, 1.0, NEVER])
def test_nan_is_never_accepted(threshold):
    assert not accepted(np.array([np.nan]), threshold).any()
    assert answering_stage(np.array([[np.nan]]), np.array([threshold])).tolist() == [1]


def test_a_row_at_the_threshold_is_accepted():
    below = np.nextafter(0.7, 0)
    assert accepted(np.array([below, 0.7]), 0.7).tolist() == [False, True]
    assert accepted(np.array([np.nextafter(1.0, 0), 1.0]), 1.0).tolist() == [False, True]


@given(arrays(np.float64, st.integers(0, 30), elements=UNIT), UNIT, UNIT)
def test_a_row_is_abstained_on_where_it_is_not_accepted(confidence, one, other):
    low, high = sorted((one, other))
    assert not (abstained(confidence, low) & ~abstained(confidence, high)).any()
    assert abstained(confidence, NEVER).all()
    assert not abstained(confidence, ALWAYS).any()
    if high > 0:
        np.testing.assert_array_equal(abstained(confidence, high), ~accepted(confidence, high))


def test_a_confidence_of_nan_is_abstained_on_only_where_rows_may_be():
    assert abstained(np.array([np.nan]), 1e-9).all()
    assert not abstained(np.array([np.nan]), ALWAYS).any()


@given(arrays(np.float64, st.integers(0, 30), elements=UNIT), UNIT, UNIT)
def test_a_higher_threshold_accepts_fewer_rows(confidence, one, other):
    low, high = sorted((one, other))
    assert not (accepted(confidence, high) & ~accepted(confidence, low)).any()


@given(st.data(), st.integers(1, 4), st.integers(0, 12))
def test_the_answering_stage_is_the_first_that_accepts(data, stages, n):
    few = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    confidence = data.draw(arrays(np.float64, (n, stages), elements=few))
    thresholds = data.draw(arrays(np.float64, stages - 1, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, NEVER])))
    expected = []
    for row in confidence.tolist():
        stage = 0
        while stage < stages - 1 and row[stage] < thresholds[stage]:
            stage += 1
        expected.append(stage)
    assert answering_stage(confidence, thresholds).tolist() == expected
    assert answering_stage(confidence[:, :-1], thresholds).tolist() == expected


@given(st.data(), st.integers(1, 5), st.integers(0, 12))
def test_the_reached_stages_are_those_of_a_plain_walk(data, stages, n):
    few = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    confidence = data.draw(arrays(np.float64, (n, stages), elements=few | st.just(np.nan)))
    thresholds = data.draw(arrays(np.float64, stages - 1, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, NEVER])))
    lowest = data.draw(arrays(np.float64, stages - 1, elements=few))
    asked = np.zeros((n, stages), dtype=bool)
    for row, seen in zip(confidence.tolist(), asked, strict=True):
        k = 0
        while True:
            seen[k] = True
            if k == stages - 1 or row[k] >= thresholds[k]:
                break
            k = stages - 1 if row[k] < lowest[k] else k + 1
    every = np.ones(stages, dtype=bool)
    np.testing.assert_array_equal(reached_stages(confidence, thresholds, lowest, every), asked)
    runs = running_stages(thresholds, lowest)
    np.testing.assert_array_equal(reached_stages(confidence, thresholds, lowest, runs), asked & runs)
    assert (asked & runs).any(axis=1).all(), "a stage that is left out answers no row"
    plain = reached_stages(confidence, thresholds, np.zeros(stages - 1), every)
    np.testing.assert_array_equal(plain, answering_stage(confidence, thresholds)[:, None] >= np.arange(stages))


def test_a_stage_runs_where_it_accepts_or_defers_early_or_a_head_reads_it():
    thresholds, lowest = np.array([NEVER, 1.0, NEVER]), np.array([0.0, 0.0, 0.1])
    assert running_stages(thresholds, lowest).tolist() == [False, True, True, True]
    assert running_stages(thresholds, lowest, heads=True).all()


def test_at_0_no_row_is_deferred_early_and_nan_never_is():
    assert not deferred_early(np.array([0.0, 0.5, np.nan]), 0.0).any()
    assert deferred_early(np.array([0.0, 0.5, 1.0, np.nan]), 1.0).tolist() == [True, True, False, False]
