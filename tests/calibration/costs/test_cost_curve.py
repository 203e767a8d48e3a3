"""Cost curves: monotone, split where that is quicker, and the same after a file."""

import json

import numpy as np
import pytest
from curves import SIZES, curves, line
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cascade.calibration.costs.cost_curve import CostCurve, curve_arrays
from cascade.calibration.policies.stage_entry import CostCurveEntry


@given(st.floats(0, 100), st.floats(1e-3, 10))
def test_times_on_a_line_give_its_two_parts_back(fixed, row):
    curve = line(fixed, row)
    np.testing.assert_allclose(curve.call_ms(SIZES), fixed + row * SIZES)
    assert (curve.fixed_ms, curve.row_ms) == pytest.approx((fixed, row), rel=1e-5, abs=1e-5)


@given(curves(), st.integers(1, 400))
def test_rows_are_split_into_the_best_number_of_equal_calls_near_the_best_size(curve, rows):
    calls = curve.calls(rows)
    assert float(curve.split_ms(rows)) == pytest.approx(calls * float(curve.call_ms(rows / calls)))
    assert float(curve.split_ms(rows)) <= float(curve.call_ms(rows)) * (1 + 1e-9) or rows <= curve.best_rows
    if rows <= curve.best_rows:
        assert calls == 1


@given(curves())
def test_more_rows_never_take_less_time(curve):
    for ms in (curve.call_ms(np.arange(300)), curve.split_ms(np.arange(300))):
        assert ms[0] == 0
        assert (np.diff(ms) >= -1e-9 * ms[1:]).all()


def test_a_time_that_falls_with_the_size_is_levelled():
    curve = CostCurve.fit(np.array([1, 2, 4]), np.array([8.0, 2.0, 4.0]))
    assert (np.diff(curve.ms) >= 0).all()
    assert curve.ms.tolist() == pytest.approx([4.0, 4.0, 4.0])
    assert curve.best_rows == 4


def test_a_stage_that_is_faster_than_the_clock_costs_something():
    curve = CostCurve.fit(np.array([1, 2]), np.zeros(2))
    assert (curve.ms > 0).all()
    assert curve.problem() is None


@given(curves())
def test_a_curve_survives_json(curve):
    again = CostCurveEntry.model_validate(json.loads(json.dumps(curve.to_dict()))).curve()
    assert again.to_dict() == curve.to_dict()
    assert again.calls(1000) == curve.calls(1000)


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"rows": [1]},
        {"rows": [1], "ms": [1.0], "spread": [0.0], "more": 1},
        {"rows": [], "ms": [], "spread": []},
        {"rows": [1, 2], "ms": [1.0], "spread": [0.0, 0.0]},
        {"rows": [2, 1], "ms": [1.0, 2.0], "spread": [0, 0]},
        {"rows": [1.5], "ms": [1.0], "spread": [0]},
        {"rows": [0], "ms": [1.0], "spread": [0]},
        {"rows": [1, 2], "ms": [2.0, 1.0], "spread": [0, 0]},
        {"rows": [1], "ms": [0.0], "spread": [0]},
        {"rows": [1], "ms": ["x"], "spread": [0]},
        {"rows": [1], "ms": [float("nan")], "spread": [0]},
        {"rows": [1], "ms": [1.0], "spread": [-1.0]},
        {"rows": "ab", "ms": [1.0], "spread": [0.0]},
    ],
)
def test_values_that_are_not_a_curve_are_refused(values):
    with pytest.raises(ValidationError):
        CostCurveEntry.model_validate(values)


def test_curves_of_different_sizes_share_an_axis():
    one, other = line(1.0, 0.1, np.array([1, 4])), line(2.0, 0.2, np.array([1, 2]))
    rows, ms, spread = curve_arrays([one, None, other])
    assert rows.tolist() == [1, 2, 4]
    assert ms[0, [0, 2]].tolist() == one.ms.tolist()
    assert np.isnan(ms[0, 1])
    assert np.isnan(ms[1]).all()
    assert np.isnan(spread[2, 2])
