"""Risk and coverage against a plain loop over thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.reports import risk_coverage

ROWS = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40)


@given(ROWS)
def test_the_curve_equals_a_plain_loop(rows):
    confidence, correct = np.array([c / 8 for c, _ in rows]), np.array([right for _, right in rows])
    seen = risk_coverage(confidence, correct)
    thresholds = sorted(set(confidence), reverse=True)
    np.testing.assert_allclose(seen.coverage, [np.mean(confidence >= t) for t in thresholds])
    np.testing.assert_allclose(seen.risk, [np.mean(~correct[confidence >= t]) for t in thresholds])
    # The definition: the mean over the rows of the risk at their own confidence.
    assert seen.area == pytest.approx(np.mean([np.mean(~correct[confidence >= c]) for c in confidence]))
    # An ideal confidence: distinct, right answers first.
    ideal = risk_coverage(-np.argsort(np.argsort(~correct, kind="stable")).astype(float), correct)
    assert seen.ideal_area == pytest.approx(ideal.area)
    assert ideal.excess_area == pytest.approx(0)
    assert seen.excess_area >= -1e-12


def test_one_row_ties_and_the_limit_of_the_ideal_area():
    assert risk_coverage(np.array([0.5]), np.array([False])).area == 1
    tied = risk_coverage(np.full(4, 0.7), np.array([True, False, True, False]))
    assert (tied.coverage.tolist(), tied.risk.tolist(), tied.area) == ([1.0], [0.5], 0.5)
    # Geifman, Uziel and El-Yaniv, equation (1): r + (1 - r) log(1 - r) for many rows.
    many = risk_coverage(np.zeros(100_000), np.arange(100_000) >= 20_000)
    assert many.ideal_area == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=1e-4)
