"""Arrivals: against simulations of the rows that a stage gets."""

import numpy as np
import pytest
from curves import curves, line
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS, RowsAtRate, RowsTogether
from cascade.calibration.policies.policy_entry import ArrivalsEntry

ENTRY = TypeAdapter(ArrivalsEntry)
SHARES = np.linspace(0, 1, 21)


@given(curves(), st.integers(1, 1000), st.integers(0, 100))
@settings(max_examples=25)
def test_a_stage_gets_a_binomial_number_of_the_rows_together(curve, rows, seed):
    share = np.random.default_rng(seed).uniform(0, 1)
    drawn = curve.split_ms(np.random.default_rng(seed).binomial(rows, share, 20_000)) / rows
    (found,) = RowsTogether((rows,)).mean_ms(curve, np.array([share]))
    assert found == pytest.approx(drawn.mean(), abs=5 * drawn.std() / np.sqrt(20_000) + 1e-12)


@given(curves(), st.sampled_from([1, 3, 64, 1000, 5000]))
@settings(max_examples=30)
def test_the_time_rises_with_the_share_from_none_to_that_of_all_rows(curve, rows):
    found = RowsTogether((rows,)).mean_ms(curve, SHARES)
    assert found[0] == 0
    assert (np.diff(found) >= -1e-9 * found[1:]).all()
    assert found[-1] == pytest.approx(float(curve.split_ms(rows)) / rows)


def test_one_row_at_a_time_costs_in_proportion():
    curve = line(3.0, 0.5)
    np.testing.assert_allclose(RowsTogether((1,)).mean_ms(curve, SHARES), 3.5 * SHARES)


def test_beyond_the_exact_sizes_quantiles_stand_for_the_rows():
    curve = line(3.0, 0.01)
    shares = np.array([0.1, 0.5, 0.9])
    whole = RowsTogether((5000,)).mean_ms(curve, shares)
    np.testing.assert_allclose(whole, curve.split_ms(5000 * shares) / 5000, rtol=0.02)


@given(curves())
def test_requests_of_several_sizes_are_mixed_by_their_rows(curve):
    mixed = RowsTogether((1, 64), (0.9, 0.1)).mean_ms(curve, SHARES)
    one, many = (RowsTogether((size,)).mean_ms(curve, SHARES) for size in (1, 64))
    np.testing.assert_allclose(mixed, (0.9 * one + 0.1 * 64 * many) / (0.9 + 6.4))


@pytest.mark.parametrize(("text", "rows"), [("64", (64,)), ("1:0.9,64:0.1", (1, 64)), ("8,16", (8, 16))])
def test_rows_together_are_read(text, rows):
    assert RowsTogether.parse(text).rows == rows


@pytest.mark.parametrize("text", ["", "x", "0", "-3", "1.5", "1:0", "1:-1", "64,64", "1:2:3", "1:inf", "1:nan"])
def test_a_text_that_is_not_rows_together_is_refused(text):
    with pytest.raises(ValueError, match=r"rows|share"):
        RowsTogether.parse(text)


def simulated(curve, rate, rows, seed=0):
    """Milliseconds per row of a stage that takes what waits when it is free, of one-row requests (Poisson)."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1e3 / rate, rows))
    now = spent = 0.0
    done = 0
    while done < rows:
        now = max(now, arrivals[done])
        waiting = min(int(np.searchsorted(arrivals, now, "right")) - done, 64)
        took = float(curve.split_ms(waiting))
        now, spent, done = now + took, spent + took, done + waiting
    return spent / rows


@pytest.mark.parametrize("rate", [5.0, 100.0, 400.0, 3000.0])
def test_at_a_rate_a_call_has_the_requests_that_came_during_the_one_before(rate):
    curve = line(5.0, 0.2)
    (found,) = RowsAtRate(rate).mean_ms(curve, np.array([1.0]))
    assert found == pytest.approx(simulated(curve, rate, 20_000), rel=0.06)


def test_at_a_low_rate_every_row_pays_a_call_of_its_own():
    curve = line(5.0, 0.2)
    np.testing.assert_allclose(RowsAtRate(0.01).mean_ms(curve, SHARES), 5.2 * SHARES, rtol=1e-3)


@given(curves(), st.floats(0.1, 1e4))
@settings(max_examples=25)
def test_at_a_rate_a_row_costs_at_most_as_much_as_alone(curve, rate):
    found = RowsAtRate(rate).mean_ms(curve, SHARES)
    assert (found >= 0).all()
    assert (found <= float(curve.call_ms(1)) * SHARES * (1 + 1e-9)).all()


@pytest.mark.parametrize("given_", [DEFAULT_ARRIVALS, RowsTogether((1, 64), (0.9, 0.1)), RowsAtRate(12.5, 4)])
def test_arrivals_survive_a_file_and_are_named(given_):
    assert ENTRY.validate_python(given_.to_dict()).arrivals() == given_
    assert "row" in str(given_)


@pytest.mark.parametrize(
    "values", [None, {}, {"rows": [64]}, {"rows": [0], "shares": [1.0]}, {"rows": 3, "shares": 1}, {"rows_per_s": 1}]
)
def test_values_that_are_not_arrivals_are_refused(values):
    with pytest.raises(ValidationError):
        ENTRY.validate_python(values)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate must be"):
        RowsAtRate(rate)
