"""The bootstrap: paired, reproducible, and its intervals have their coverage."""

import numpy as np
import pytest

from cascade.calibration.choice.bootstrap import bootstrap_means, percentile_interval


def test_columns_see_the_same_draws():
    values = np.random.default_rng(0).normal(size=(50, 1))
    draws = bootstrap_means(np.hstack([values, values + 1, 2 * values]), resamples=40, seed=3)
    assert draws.shape == (40, 3)
    assert draws[:, 1] == pytest.approx(draws[:, 0] + 1)
    assert draws[:, 2] == pytest.approx(2 * draws[:, 0])
    assert np.array_equal(draws, bootstrap_means(np.hstack([values, values + 1, 2 * values]), 40, 3))


def test_draws_spread_like_the_mean():
    values = np.random.default_rng(1).normal(size=(400, 1))
    assert bootstrap_means(values, seed=1).std() == pytest.approx(values.std() / 20, rel=0.15)


def test_intervals_of_a_ratio_of_means_cover_it_at_about_their_level():
    random = np.random.default_rng(2)
    covered = 0
    for run in range(200):
        first = random.exponential(1.0, 150)
        second = first + random.exponential(1.0, 150)
        means = bootstrap_means(np.stack([first, second], axis=1), resamples=200, seed=run)
        low, high = percentile_interval(means[:, 0] / means[:, 1], 0.9)
        covered += low <= 0.5 <= high
    assert 165 <= covered <= 195  # 180 expected, standard deviation 4.2
