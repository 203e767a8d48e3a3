"""Scores: in [0, 1], against plain loops, and at their extremes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.routers import SCORES, class_score, rejected_class, score_function


@st.composite
def distributions(draw, least_classes=2):
    """(n, C) rows that sum to 1; zeros and ties occur."""
    shape = draw(st.integers(1, 6)), draw(st.integers(least_classes, 12))
    weights = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.0, 1e-9, 0.3, 1.0, 1.0, 40.0])))
    weights[weights.sum(axis=1) == 0] = 1.0
    return weights / weights.sum(axis=1, keepdims=True)


def by_hand(name, row):
    ordered = sorted(row)
    if name == "maximum_probability":
        return ordered[-1]
    if name == "margin":
        return ordered[-1] - ordered[-2]
    return 1 + sum(p * math.log(p) for p in row if p > 0) / math.log(len(row))


@pytest.mark.parametrize("name", SCORES)
@given(probabilities=distributions())
def test_scores_equal_a_plain_loop_and_stay_in_the_unit_interval(name, probabilities):
    found = SCORES[name](probabilities)
    assert found.shape == (len(probabilities),)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    assert found == pytest.approx([by_hand(name, row) for row in probabilities.tolist()], abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("classes", [2, 10])
def test_certainty_scores_one_and_ignorance_scores_lowest(name, classes):
    certain, unsure = np.eye(classes)[:1], np.full((1, classes), 1 / classes)
    assert SCORES[name](certain) == pytest.approx([1.0])
    lowest = 1 / classes if name == "maximum_probability" else 0.0
    assert SCORES[name](unsure) == pytest.approx([lowest], abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
@given(probabilities=distributions(), seed=st.integers(0, 99))
def test_the_order_of_the_classes_does_not_matter(name, probabilities, seed):
    shuffled = np.random.default_rng(seed).permutation(probabilities, axis=1)
    assert SCORES[name](shuffled) == pytest.approx(SCORES[name](probabilities), abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_two_classes_are_ordered_alike_by_all_scores(name):
    top = np.linspace(0.5, 1.0, 50)
    assert (np.diff(SCORES[name](np.stack([top, 1 - top], axis=1))) > 0).all()


@given(probabilities=distributions())
def test_the_score_of_a_reject_router_is_the_probability_of_its_class(probabilities):
    for number, column in enumerate(probabilities.T):
        name = class_score(number)
        assert rejected_class(name) == number
        np.testing.assert_array_equal(score_function(name)(probabilities), column)


def test_other_scores_reject_no_class_and_unknown_names_are_refused():
    assert [rejected_class(name) for name in (None, "", "margin", "probability_of_class_01")] == [None] * 4
    assert score_function("margin") is SCORES["margin"]
    with pytest.raises(ValueError, match="a score must be one of"):
        score_function("loudness")
