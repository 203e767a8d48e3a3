"""Rejection traces: what a row survives, and how often their certificate is violated."""

import numpy as np
import pytest

from cascade.calibration.fitting.rejection_trace import (
    FAMILIES,
    depths,
    fit_rejection_trace,
    fit_rejection_traces,
    mean_features,
)


def sums(n, drift, random, learners=12):
    """Partial sums of votes with a mean of ``drift``."""
    return np.cumsum(random.normal(drift, 1.0, (n, learners)), axis=1).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_traces_of_a_family_are_nested(family):
    random = np.random.default_rng(0)
    traces = FAMILIES[family](sums(100, 0.6, random), sums(300, -0.6, random))
    assert traces.shape[1] == 12
    assert (traces[1:] >= traces[:-1]).all()
    rows = sums(200, 0.0, random)
    expected = [max([k for k, trace in enumerate(traces) if (row >= trace).all()], default=-1) for row in rows]
    np.testing.assert_array_equal(depths(traces, rows), expected)


def test_features_are_counted_up_to_the_rejection():
    trace = np.array([-np.inf, 0, 0, 5], dtype=np.float32)
    assert mean_features(trace, np.array([[-9, 0, 0, 5], [0, -1, 9, 9], [0, 0, 0, 4]])) == (4 + 2 + 4) / 3


def test_the_certificate_is_violated_with_probability_delta_at_most():
    random = np.random.default_rng(1)
    positive, negative = sums(200, 0.6, random), sums(500, -0.6, random)
    future = sums(40_000, 0.6, random)
    violated = []
    for _ in range(150):
        trace = fit_rejection_traces(positive, negative, sums(100, 0.6, random), 0.9, 0.1)[0].trace
        violated.append((future >= trace).all(axis=1).mean() < 0.9)
    assert np.mean(violated) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 150)


def test_a_certificate_counts_its_positives_and_misses():
    random = np.random.default_rng(2)
    certifying = sums(300, 0.6, random)
    trace, facts = fit_rejection_trace(sums(200, 0.6, random), sums(500, -0.6, random), certifying, 0.9, 0.05)
    certificate = facts["certificate"]
    misses = int((~(certifying >= trace).all(axis=1)).sum())
    assert (certificate["positives"], certificate["misses"]) == (300, misses)
    assert 0.9 <= certificate["lower_bound"] < 1 - misses / 300
    assert set(facts["families"]) == set(FAMILIES)
    assert facts["families"][facts["trace"]]["mean_features"] < 12


def test_a_recall_that_cannot_be_certified_rejects_nothing():
    random = np.random.default_rng(3)
    for found in fit_rejection_traces(sums(50, 1, random), sums(50, -1, random), sums(20, 1, random), 0.99, 0.05):
        assert (found.trace == -np.inf).all()
        assert found.mean_features == 12


def test_without_positives_for_it_there_is_no_certificate():
    random = np.random.default_rng(4)
    positive = sums(100, 0.6, random)
    found = fit_rejection_traces(positive, sums(100, -0.6, random), positive[:0], 0.9, 0.05)
    assert {each.certificate for each in found} == {None}
    assert found[0].mean_features < 12
