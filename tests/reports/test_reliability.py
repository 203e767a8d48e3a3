"""Reliability against a plain loop, and its error for simulated models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.reports import reliability


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_bins_equal_a_plain_loop(rows, bins):
    # Sixtieths meet many edges exactly.
    confidence = np.array([sixtieths / 60 for sixtieths, _ in rows])
    right = np.array([answer for _, answer in rows])
    seen = reliability(confidence, right, bins)
    assert seen.count.sum() == len(rows)
    error = 0.0
    edges = np.linspace(0, 1, bins + 1)
    np.testing.assert_array_equal(seen.edges, edges)
    for m in range(bins):
        held = [i for i, c in enumerate(confidence) if edges[m] < c <= edges[m + 1] or (m == 0 and c == 0)]
        assert seen.count[m] == len(held)
        if held:
            mean_confidence, accuracy = np.mean(confidence[held]), np.mean(right[held])
            assert seen.confidence[m] == pytest.approx(mean_confidence)
            assert seen.accuracy[m] == pytest.approx(accuracy)
            error += len(held) / len(rows) * abs(mean_confidence - accuracy)
        else:
            assert np.isnan(seen.confidence[m])
            assert np.isnan(seen.accuracy[m])
    assert seen.expected_calibration_error == pytest.approx(error)


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_its_overconfidence(seed):
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.3, 1.0, 50_000)
    calibrated = reliability(confidence, random.random(50_000) < confidence)
    assert calibrated.expected_calibration_error < 0.02
    overconfident = reliability(confidence, random.random(50_000) < confidence - 0.25)
    assert overconfident.expected_calibration_error == pytest.approx(0.25, abs=0.02)


def test_the_error_does_not_cancel_between_bins():
    confidence = np.array([0.9] * 100 + [0.5] * 100)
    right = np.array([True] * 70 + [False] * 30 + [True] * 70 + [False] * 30)
    assert reliability(confidence, right).expected_calibration_error == pytest.approx(0.2)


def test_a_rounding_error_above_one_is_in_the_last_bin():
    seen = reliability(np.array([1 + 5e-7, 1.0, 0.0]), np.array([True, True, False]))
    assert (seen.count[0], seen.count[-1], seen.count.sum()) == (1, 2, 3)
