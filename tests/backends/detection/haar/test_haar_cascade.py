"""The evaluation of many windows equals that of single windows, in every form."""

from dataclasses import replace

import numpy as np
import pytest
from haar_models import random_model, random_windows
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.backends.detection.haar.cascade import HaarCascade
from cascade.backends.detection.haar.features import feature_values
from cascade.backends.detection.haar.integral_image import LevelIntegrals, WindowIntegrals


def naive(model, window):
    """(sum, features, survives) of one window, one weak learner at a time."""
    integrals = WindowIntegrals.of_windows(window[None])
    values = feature_values(model.features, integrals)[:, 0]
    total = np.float32(0)
    for t, value in enumerate(values):
        vote = model.votes[t, int(value >= model.threshold[t])]
        total = vote if model.starts[t] else np.float32(total + vote)
        if total < model.trace[t]:
            return total, t + 1, False
    return total, len(model), True


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 50), st.sampled_from([1, 2, 5]), st.booleans(), st.integers(0, 99))
def test_windows_together_are_as_windows_alone(n, learners, stages, rejects, seed):
    model = random_model(learners, stages=min(stages, learners), rejects=rejects, seed=seed)
    windows = random_windows(n, seed=seed)
    outcome = HaarCascade(model).evaluate(WindowIntegrals.of_windows(windows))
    total, features, survives = zip(*(naive(model, window) for window in windows), strict=True)
    np.testing.assert_array_equal(outcome.sum, total)
    np.testing.assert_array_equal(outcome.features, features)
    np.testing.assert_array_equal(outcome.survives, survives)


def test_windows_of_a_level_are_as_gathered_windows():
    image = random_windows(1, 60, 50)[0]
    tops, lefts = (axis.ravel() for axis in np.meshgrid(np.arange(0, 48, 3), np.arange(0, 40, 2), indexing="ij"))
    windows = np.stack([image[y : y + 12, x : x + 10] for y, x in zip(tops, lefts, strict=True)])
    cascade = HaarCascade(random_model())
    level = LevelIntegrals(image, (12, 10))
    alone = cascade.evaluate(WindowIntegrals.of_windows(windows))
    for integrals in (level.windows(tops, lefts), level.grid(range(0, 48, 3), range(0, 40, 2))):
        for ours, theirs in zip(cascade.evaluate(integrals), alone, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert 0.01 < alone.survives.mean() < 0.9


def test_stages_are_a_soft_cascade_with_their_thresholds():
    """With one stage, and with stages of one weak learner that each begin a sum."""
    windows = WindowIntegrals.of_windows(random_windows(300))
    model = random_model(20)
    staged = replace(model, trace=np.where(np.arange(20) == 19, 0.1, -np.inf).astype(np.float32))
    final = HaarCascade(replace(model, trace=np.full(20, -np.inf, np.float32))).evaluate(windows)
    outcome = HaarCascade(staged).evaluate(windows)
    np.testing.assert_array_equal(outcome.survives, final.sum >= np.float32(0.1))
    assert (outcome.features == 20).all()
    single = replace(model, starts=np.ones(20, dtype=bool), trace=np.full(20, -0.3, np.float32))
    sums = HaarCascade(single).partial_sums(windows)
    np.testing.assert_array_equal(HaarCascade(single).evaluate(windows).survives, (sums >= np.float32(-0.3)).all(1))


def test_partial_sums_are_those_of_the_evaluation():
    windows = WindowIntegrals.of_windows(random_windows(200))
    model = random_model(30, stages=3)
    sums, outcome = HaarCascade(model).partial_sums(windows), HaarCascade(model).evaluate(windows)
    assert sums.shape == (200, 30)
    np.testing.assert_array_equal(sums[np.arange(200), outcome.features - 1], outcome.sum)
    survives = (sums >= model.trace).all(axis=1)
    np.testing.assert_array_equal(outcome.survives, survives)


@pytest.mark.parametrize(("last", "middle"), [(-np.inf, 0.0), (-0.4, -0.4)])
def test_a_rejected_window_has_probability_0_and_a_survivor_the_logistic_of_its_excess(last, middle):
    model = random_model()
    trace = model.trace.copy()
    trace[-1] = last
    cascade = HaarCascade(replace(model, trace=trace))
    outcome = cascade.evaluate(WindowIntegrals.of_windows(random_windows(200)))
    probability = cascade.probability(outcome)
    assert (probability[~outcome.survives] == 0).all()
    excess = outcome.sum[outcome.survives].astype(float) - np.float32(middle)
    assert probability[outcome.survives] == pytest.approx(1 / (1 + np.exp(-2 * excess)))


def test_no_windows_have_no_outcome():
    outcome = HaarCascade(random_model()).evaluate(WindowIntegrals.of_windows(random_windows(0)))
    assert [len(each) for each in outcome] == [0, 0, 0]
