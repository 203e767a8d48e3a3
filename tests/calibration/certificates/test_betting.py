"""Bets on a mean: exact error rates over all outcomes, and certified more often than with a constant bet fraction."""

import itertools

import numpy as np
import pytest

from cascade.calibration.certificates.betting import highest_capital


@pytest.mark.parametrize("bound", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_over_all_outcomes_the_capital_reaches_any_level_with_a_probability_of_its_inverse_at_most(bound, delta):
    rows = 11
    outcomes = np.array(list(itertools.product([0.0, 1.0], repeat=rows)))
    probability = np.prod(np.where(outcomes > 0, bound, 1 - bound), axis=1)
    capital = np.array([highest_capital(outcome, bound, delta) for outcome in outcomes])
    assert probability.sum() == pytest.approx(1)
    for level in np.unique(capital):
        assert probability[capital >= level].sum() <= 1 / level + 1e-9


@pytest.mark.parametrize(
    ("values", "chances"),
    [([0.03, 0.2, 1.0], [0.6, 0.3, 0.1]), ([0.01, 1.0], [0.995, 0.005]), ([0.2], [1.0]), ([0.0, 1.0], [0.5, 0.5])],
)
@pytest.mark.parametrize("rows", [40, 800])
def test_a_mean_at_the_bound_is_found_below_it_with_probability_delta_at_most(values, chances, rows):
    delta, samples, rng = 0.1, 800, np.random.default_rng(0)
    outcomes = rng.choice(values, p=chances, size=(samples, rows))
    mean = float(np.dot(values, chances))
    errors = sum(highest_capital(outcome, mean, delta) >= 1 / delta for outcome in outcomes)
    assert errors <= delta * samples + 3 * np.sqrt(delta * (1 - delta) * samples)


def constant_bet_capital(outcome, bound, delta):
    """The capital with bet fractions that do not depend on the capital: sqrt(2 log(1 / delta) / (variance n))."""
    count = np.arange(1, len(outcome) + 1)
    mean = (0.5 + np.cumsum(outcome)) / (count + 1)
    variance = (0.25 + np.cumsum((outcome - mean) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bet_fraction = np.minimum(np.sqrt(2 * np.log(1 / delta) / (before * len(outcome))), 0.75 / (1 - bound))
    return np.exp(np.cumsum(np.log1p(bet_fraction * (bound - outcome))).max())


def test_a_mean_clearly_below_the_bound_is_found_more_often_than_with_a_constant_bet():
    rng, delta, rows = np.random.default_rng(1), 0.05, 1700
    values, chances = np.array([1, 7, 37]) / 37, [0.6, 0.3, 0.1]
    mean = float(values @ chances)
    bound = mean + 2.1 * float((values**2 @ chances - mean**2) ** 0.5) / rows**0.5
    outcomes = rng.choice(values, p=chances, size=(300, rows))
    found = [
        sum(capital(outcome, bound, delta) >= 1 / delta for outcome in outcomes)
        for capital in (highest_capital, constant_bet_capital)
    ]
    assert found[0] > 1.15 * found[1]  # measured: 1.3 times
