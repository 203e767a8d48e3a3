"""The exact test of a drop: against brute force over all samples, its true size, and where it is used."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from cascade.calibration.certificates.paired_trinomial import NUISANCE_SHARE, trinomial_limit, trinomial_p_value
from cascade.calibration.exact_binomial import exact_interval


def upper_limits(rows, delta):
    """(n + 1, n + 1) score limits by changed and worse rows, as roots of the quadratic; infinite where impossible."""
    z = norm.isf(delta)
    changed, worse = np.meshgrid(np.arange(rows + 1), np.arange(rows + 1), indexing="ij")
    total = 2 * worse - changed
    a, b, c = rows**2 + z**2 * rows, -2 * rows * total, total**2 - z**2 * (changed + 1)
    with np.errstate(invalid="ignore"):
        larger = (-b + np.sqrt(b**2 - 4 * a * c)) / (2 * a)
    return np.where(worse <= changed, larger, np.inf)


def region_probability(region, share, mean):
    """Of samples in a region (n + 1, n + 1), by adding the probabilities of all of them."""
    rows = len(region) - 1
    counts = np.arange(rows + 1)
    worse = 0.5 if share == 0 else np.clip((1 + mean / share) / 2, 0, 1)
    given_changed = binom.pmf(counts[None, :], counts[:, None], worse)
    return float(binom.pmf(counts, rows, share) @ (given_changed * region).sum(axis=1))


@given(st.integers(5, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_the_p_value_is_an_upper_bound_at_every_hypothesis_of_the_interval_and_a_close_one(rows, data):
    changed = data.draw(st.integers(0, rows))
    worse = data.draw(st.integers(0, changed))
    drop = data.draw(st.floats(-0.6, 0.6))
    delta = data.draw(st.sampled_from([0.02, 0.05, 0.3]))
    p_value = trinomial_p_value(worse, changed - worse, rows, drop, delta)
    risk = NUISANCE_SHARE * delta
    low, high = exact_interval(changed, rows, risk / 2)
    low = max(low, drop)
    if high < low:
        assert p_value == risk
        return
    limits = upper_limits(rows, delta)
    region = limits <= limits[changed, worse] + 1e-12
    shares = np.concatenate([np.linspace(low, high, 40), low + (high - low) * np.geomspace(1e-6, 1, 20)])
    means = [max(drop, -share) for share in shares]
    exact = max(region_probability(region, share, mean) for share, mean in zip(shares, means, strict=True))
    assert p_value >= min(1.0, exact + risk) - 1e-9
    # Far above only where few changed rows are made monotone, and by the bound between the knots.
    assert p_value <= min(1.0, 1.03 * exact + risk + 0.004) or changed <= 8


def critical_worse(rows, drop, delta):
    """(n + 1,) for each number of changed rows, the largest number of worse rows that rejects; -1 if none does."""
    found = np.full(rows + 1, -1)
    for changed in range(rows + 1):
        low, high = -1, changed
        while low < high:
            middle = (low + high + 1) // 2
            rejects = trinomial_p_value(middle, changed - middle, rows, drop, delta) <= delta
            low, high = (middle, high) if rejects else (low, middle - 1)
        found[changed] = low
    return found


@pytest.mark.parametrize(
    ("rows", "drop", "delta"),
    [(51, 0.05, 0.05), (120, 0.02, 0.05), (120, 0.0, 0.1), (120, -0.05, 0.05), pytest.param(250, 0.1, 0.05)],
)
def test_the_true_size_is_at_most_delta_and_nearly_all_of_it(rows, drop, delta):
    critical = critical_worse(rows, drop, delta)
    counts, sizes = np.arange(rows + 1), []
    for share in np.geomspace(max(abs(drop), 2e-3), 1, 250):
        for mean in {drop, min(drop + 0.01, share), min(drop + 0.06, share)}:
            below = np.where(critical < 0, 0.0, binom.cdf(critical, counts, (1 + mean / share) / 2))
            sizes.append(binom.pmf(counts, rows, share) @ below)
    assert 0.9 * delta <= max(sizes) <= delta


@given(st.integers(20, 3000), st.data())
@settings(max_examples=60, deadline=None)
def test_the_p_value_falls_as_the_target_gets_easier(rows, data):
    changed = data.draw(st.integers(0, rows))
    worse = data.draw(st.integers(0, changed))
    drops = sorted(data.draw(st.lists(st.floats(-1, 1), min_size=2, max_size=6)))
    p_values = [trinomial_p_value(worse, changed - worse, rows, drop, 0.05) for drop in drops]
    # Except for the bound between the knots, which move with the target.
    assert all(after <= 1.02 * before + 0.002 for before, after in itertools.pairwise(p_values))


@given(st.integers(1, 500), st.sampled_from([0.01, 0.05, 0.3]), st.data())
@settings(max_examples=30, deadline=None)
def test_the_limit_parts_the_drops_that_the_test_rejects_from_the_others(rows, delta, data):
    changed = data.draw(st.integers(0, rows))
    worse = data.draw(st.integers(0, changed))
    limit = trinomial_limit(worse, changed - worse, rows, delta)
    assert (worse - (changed - worse)) / rows <= limit <= 1
    assert limit == 1 or trinomial_p_value(worse, changed - worse, rows, limit, delta) <= delta
    assert trinomial_p_value(worse, changed - worse, rows, limit - 1e-8, delta) > delta


@pytest.mark.parametrize("drop", [-1.0, -0.3, -1e-200, 0.0, 5e-324, 1e-200, 1e-160, 1e-9, 0.3, 1.0])
@pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 0), (0, 1), (7, 0), (0, 7), (3, 4)])
def test_samples_and_drops_at_the_edge_have_a_p_value(worse, better, drop):
    assert 0 < trinomial_p_value(worse, better, 7, drop, 0.05) <= 1
    assert 0 < trinomial_p_value(worse, better, 7, drop, 0.9) <= 1


def test_a_drop_of_a_tenth_is_certified_by_rows_without_any_and_not_by_rows_that_are_all_worse():
    assert trinomial_p_value(0, 0, 200, 0.1, 0.05) <= 0.05
    assert trinomial_p_value(200, 0, 200, 0.1, 0.05) == 1


def test_a_million_rows_are_tested_in_milliseconds():
    def seconds():
        begin = time.perf_counter()
        trinomial_p_value(34_804, 15_196, 1_000_000, 0.02, 0.05)
        return time.perf_counter() - begin

    assert min(seconds() for _ in range(5)) < 0.05  # measured: 0.006
