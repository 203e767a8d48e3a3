"""The confidence sequence: the definition, solved; and the true rate inside at all times at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration.monitoring.confidence_sequence import rate_interval


def wealth_path(outcomes, rate):
    """The gambler's wealth after each outcome, bet by bet."""
    wealth, path = 1.0, []
    for n, outcome in enumerate(outcomes):
        belief = (sum(outcomes[:n]) + 0.5) / (n + 1)
        wealth *= belief / rate if outcome else (1 - belief) / (1 - rate)
        path.append(wealth)
    return path


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_interval_is_where_the_capital_is_below_1_over_delta(outcomes, delta):
    low, high = rate_interval(sum(outcomes), len(outcomes), delta)
    assert 0 <= low <= np.mean(outcomes) <= high <= 1
    for rate in np.linspace(0.005, 0.995, 100):
        if abs(rate - low) > 1e-9 and abs(rate - high) > 1e-9:
            assert (low < rate < high) == (wealth_path(outcomes, rate)[-1] < 1 / delta)


def test_without_outcomes_every_rate_is_possible():
    assert rate_interval(0, 0, 0.05) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "low_end", "high_end"), [(0, True, False), (500, False, True)])
def test_certain_outcomes_leave_an_end_open(successes, low_end, high_end):
    low, high = rate_interval(successes, 500, 0.05)
    assert (low == 0, high == 1) == (low_end, high_end)
    assert high - low == pytest.approx(0.0125, abs=0.003)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98])
def test_the_true_rate_is_inside_at_all_times_at_once(rate):
    runs, length, delta = 2000, 3000, 0.1
    outcomes = np.random.default_rng(int(100 * rate)).random((runs, length)) < rate
    n = np.arange(length)
    so_far = np.cumsum(outcomes, axis=1) - outcomes
    belief = (so_far + 0.5) / (n + 1)
    wealth = np.cumsum(np.where(outcomes, np.log(belief / rate), np.log((1 - belief) / (1 - rate))), axis=1)
    missed = (wealth.max(axis=1) >= -np.log(delta)).mean()
    assert missed <= delta + 3 * np.sqrt(delta * (1 - delta) / runs)
    assert missed > delta / 10  # it is not valid just because it is too wide
    end = rate_interval(int(outcomes[0].sum()), length, delta)
    assert (end[0] < rate < end[1]) == (wealth[0, -1] < -np.log(delta))
