"""The sequential test: false alarms over all times together, delays, and the capital by plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration.monitoring.rate_test import RateTest


def final_e_value(counts, low, high):
    """The wealth by the definition: each payment, on each alternative, followed on its own."""
    ends = [(low, -1)] * (low > 0) + [(high, 1)] * (high < 1)
    bets = []
    for end, sign in ends:
        for shift in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2):
            odds = end / (1 - end) * math.exp(sign * shift)
            bets.append((end, odds / (1 + odds)))
    unpaid = lambda j: 1 / (1 + math.log(1 + j))  # noqa: E731
    total = unpaid(len(counts))
    for j in range(len(counts)):
        for end, alternative in bets:
            stake = (unpaid(j) - unpaid(j + 1)) / len(bets)
            for successes, trials in counts[j:]:
                stake *= (alternative / end) ** successes
                stake *= ((1 - alternative) / (1 - end)) ** (trials - successes)
            total += stake
    return total


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(3, 6)), min_size=1, max_size=8),
    st.sampled_from([(0.9, 1.0), (0.2, 0.4), (0.0, 0.3), (0.5, 0.5)]),
)
def test_the_e_value_is_the_sum_of_all_bets(counts, ends):
    test = RateTest(*ends, 0.05)
    for successes, trials in counts:
        test.update(successes, trials)
    assert test.e_value == pytest.approx(final_e_value(counts, *ends), rel=1e-9)
    assert (test.successes, test.trials) == tuple(map(sum, zip(*counts, strict=True)))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1), st.integers(1, 5))
def test_a_bet_is_never_in_favour_of_the_gambler(low, place, truth, trials):
    high = low + place * (1 - low)
    rate = low + truth * (high - low)
    expected = 0.0
    for successes in range(trials + 1):
        test = RateTest(low, high, 0.05)
        test.update(successes, trials)
        expected += math.comb(trials, successes) * rate**successes * (1 - rate) ** (trials - successes) * test.e_value
    assert expected <= 1 + 1e-6


@pytest.mark.parametrize(("low", "high", "rate"), [(0.95, 1.0, 0.95), (0.18, 0.22, 0.22), (0.0, 0.3, 0.3)])
def test_false_alarms_are_rare_however_long_it_runs(low, high, rate):
    delta, runs = 0.1, 200
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(runs):
        test = RateTest(low, high, delta)
        for successes in rng.binomial(20, rate, 400):
            test.update(int(successes), 20)
        alarms += test.alarm
    assert alarms / runs <= delta + 3 * np.sqrt(delta * (1 - delta) / runs)


def trials_until_alarm(before, after, quiet, low, high, seed):
    rng = np.random.default_rng(seed)
    test = RateTest(low, high, 0.05)
    for outcome in rng.random(quiet) < before:
        test.update(int(outcome), 1)
    assert not test.alarm
    while not test.alarm:
        test.update(int(rng.random() < after), 1)
    return test.alarm_trials - quiet


def test_a_change_is_noticed_though_all_was_well_for_long():
    early = np.median([trials_until_alarm(0.98, 0.85, 10, 0.97, 1.0, seed) for seed in range(15)])
    late = np.median([trials_until_alarm(0.98, 0.85, 10_000, 0.97, 1.0, seed) for seed in range(3)])
    assert early < 120
    assert late < 4 * early


@pytest.mark.parametrize("after", [0.1, 0.3])
def test_both_sides_are_watched(after):
    assert trials_until_alarm(0.2, after, 100, 0.18, 0.22, 0) < 1000


def test_an_alarm_stays_and_records_its_time():
    test = RateTest(0.9, 1.0, 0.05)
    test.update(0, 10)
    assert test.alarm_trials == 10
    test.update(10_000, 10_000)
    assert test.e_value < 1
    assert (test.alarm, test.alarm_trials) == (True, 10)


def test_an_impossible_outcome_is_detected_soon():
    test = RateTest(1.0, 1.0, 0.05)
    test.update(10_000, 10_000)
    assert not test.alarm
    test.update(0, 10)
    assert test.alarm


def test_nothing_happens_without_trials_or_without_ends():
    test = RateTest(0.5, 0.6, 0.05)
    test.update(0, 0)
    assert test.e_value == 1
    free = RateTest(0.0, 1.0, 0.05)
    free.update(3, 1000)
    assert (free.e_value, free.alarm, free.trials) == (1.0, False, 1000)


def test_huge_batches_do_not_overflow():
    test = RateTest(0.2, 0.3, 0.05)
    test.update(900_000_000, 1_000_000_000)
    assert test.alarm
    assert np.isfinite(test.e_value)
    test.update(250_000_000_000, 1_000_000_000_000)
    assert 0 <= test.e_value < 1


@pytest.mark.parametrize("arguments", [(0.6, 0.5, 0.1), (-0.1, 0.5, 0.1), (0.1, 1.5, 0.1), (0, 1, 0), (0, 1, 1.0)])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="must be in"):
        RateTest(*arguments)
