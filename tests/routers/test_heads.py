"""Heads: against plain loops, the same bits in every batch, plain numbers and back."""

import json
import pickle
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cascade.calibration import Identity
from cascade.calibration.policies.stage_entry import HeadEntry
from cascade.routers import EVIDENCE_COLUMNS, Agreement, Layer, LearnedHead, Router, new_evidence
from cascade.routers.heads import head_features, head_to_dict

ENTRY = TypeAdapter(HeadEntry)
WIDTH = len(EVIDENCE_COLUMNS)


def evidence_of(n=70, stages=3, classes=4, seed=0, probabilities=True):
    """(n, 5 stages) of random predictions."""
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(stages):
        said = random.dirichlet(np.full(classes, 0.4), size=n)
        parts.append(new_evidence(said.argmax(axis=1), said.max(axis=1), said if probabilities else None))
    return np.concatenate(parts, axis=1)


def random_head(inputs, history, stage, hidden, seed=0):
    random = np.random.default_rng(seed)
    scores = 3 if inputs == "probabilities" else 1
    features = scores * (stage + 1) + stage if history else scores
    widths = [features, *([hidden] if hidden else []), 1]
    layers = [Layer(random.normal(size=(b, a)), random.normal(size=b)) for a, b in pairwise(widths)]
    return LearnedHead(inputs, history, tuple(layers))


HEADS = [
    Agreement(),
    *(random_head(i, h, 2, u) for i in ("confidence", "probabilities") for h in (False, True) for u in (0, 8)),
]


def name_of(head):
    if isinstance(head, Agreement):
        return "agreement"
    return f"{head.inputs}-{'all' if head.history else 'own'}-{len(head.layers)}"


def features_by_hand(row, inputs, history):
    """The features of one row, one after the other."""
    stages = [row[i : i + WIDTH] for i in range(0, len(row), WIDTH)]
    columns = [1] if inputs == "confidence" else [2, 3, 4]
    found = []
    for stage in stages if history else stages[-1:]:
        for column in columns:
            p = min(max(stage[column], 1e-6), 1 - 1e-6)
            found.append(np.log(p / (1 - p)))
    if history:
        found += [float(stage[0] == stages[-1][0]) for stage in stages[:-1]]
    return found


@pytest.mark.parametrize("inputs", ["confidence", "probabilities"])
@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_features_equal_those_of_a_plain_loop(inputs, history, stages):
    evidence = evidence_of(20, stages)
    expected = [features_by_hand(row, inputs, history) for row in evidence]
    found = head_features(evidence, inputs, history)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found.T, expected, atol=1e-9)


@pytest.mark.parametrize("head", HEADS[1:], ids=name_of)
def test_a_learned_head_equals_matrix_products(head):
    evidence = evidence_of()
    values = np.array([features_by_hand(row, head.inputs, head.history) for row in evidence])
    for layer in head.layers[:-1]:
        values = np.maximum(values @ layer.weights.T + layer.biases, 0)
    logits = (values @ head.layers[-1].weights.T + head.layers[-1].biases)[:, 0]
    assert head.confidence(evidence) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-9)


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=10))
def test_agreement_is_the_share_of_the_stages_so_far(answers):
    parts = [new_evidence(np.array(column), np.full(len(answers), 0.5), None) for column in zip(*answers)]
    found = Agreement().confidence(np.concatenate(parts, axis=1))
    assert found.tolist() == [sum(a == row[-1] for a in row) / 3 for row in answers]


@pytest.mark.parametrize("head", HEADS, ids=name_of)
def test_the_same_row_has_the_same_bits_in_every_batch(head):
    evidence, router = evidence_of(), Router(None, Identity(), head)
    together = router.confidence(None, None, evidence)
    assert together.dtype == np.float64
    assert ((together >= 0) & (together <= 1)).all()
    assert len(np.unique(together)) > 1
    alone = [router.confidence(None, None, evidence[i : i + 1])[0] for i in range(len(evidence))]
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(router.confidence(None, None, evidence[::3]), together[::3])
    wide = np.concatenate([evidence, evidence], axis=1)[:, : evidence.shape[1]]
    np.testing.assert_array_equal(router.confidence(None, None, wide), together)
    np.testing.assert_array_equal(router.confidence(None, None, np.asfortranarray(evidence)), together)


@pytest.mark.parametrize("head", HEADS, ids=name_of)
def test_json_and_pickle_give_an_equal_head(head):
    evidence = evidence_of()
    for again in (
        ENTRY.validate_python(json.loads(json.dumps(head_to_dict(head)))).head(),
        pickle.loads(pickle.dumps(head)),
    ):
        assert again == head
        assert hash(again) == hash(head)
        np.testing.assert_array_equal(again.confidence(evidence), head.confidence(evidence))


def test_another_weight_makes_another_head():
    head = random_head("confidence", True, 2, 0)
    moved = Layer(np.nextafter(head.layers[0].weights, 9), head.layers[0].biases)
    assert LearnedHead("confidence", True, (moved,)) != head
    assert head.layers[0] != "layer"


@pytest.mark.parametrize("history", [True, False])
@pytest.mark.parametrize("inputs", ["confidence", "probabilities"])
def test_a_head_fits_where_it_has_a_weight_for_every_feature(inputs, history):
    head = random_head(inputs, history, 2, 3)
    assert [head.fits(k) for k in range(4)] == ([False, False, True, False] if history else [True] * 4)
    assert Agreement().fits(0)


def test_without_probabilities_the_confidence_is_nan():
    evidence = evidence_of(5, probabilities=False)
    assert np.isnan(random_head("probabilities", True, 2, 4).confidence(evidence)).all()
    assert np.isfinite(random_head("confidence", True, 2, 4).confidence(evidence)).all()


def test_extreme_weights_end_at_0_and_1_without_a_warning():
    evidence = new_evidence(np.array([0, 1]), np.array([0.0, 1.0]), None)
    for size in (1e6, 1e308):
        head = LearnedHead("confidence", False, (Layer(np.array([[size]]), np.zeros(1)),))
        assert head.confidence(evidence) == pytest.approx([0.0, 1.0])


def test_a_head_without_evidence_is_refused():
    with pytest.raises(ValueError, match="evidence"):
        Router(None, Identity(), Agreement()).confidence(np.array([[0.5, 0.5]]))


GOOD = {"type": "learned", "inputs": "confidence", "history": False, "layers": [{"weights": [[1.0]], "biases": [0.0]}]}


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"type": "agreement", "weights": []},
        GOOD | {"type": "oracle"},
        GOOD | {"inputs": "rows"},
        GOOD | {"inputs": ["confidence"]},
        GOOD | {"history": 1},
        GOOD | {"layers": []},
        GOOD | {"layers": {}},
        GOOD | {"more": 1},
        GOOD | {"layers": [None]},
        GOOD | {"layers": [{"weights": [[1.0]]}]},
        GOOD | {"layers": [{"weights": [1.0], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": [[1.0], [1.0, 2.0]], "biases": [0.0, 0.0]}]},
        GOOD | {"layers": [{"weights": [[1.0]], "biases": [0.0, 0.0]}]},
        GOOD | {"layers": [{"weights": [[]], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": [[True]], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": ["1"], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": [[float("inf")]], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": [[10**400]], "biases": [0.0]}]},
        GOOD | {"layers": [{"weights": [[1.0], [1.0]], "biases": [0.0, 0.0]}]},
        GOOD | {"layers": [{"weights": [[1.0], [1.0]], "biases": [0, 0]}, {"weights": [[1.0]], "biases": [0]}]},
    ],
    ids=lambda values: str(values)[:60],
)
def test_values_that_are_no_head_are_refused(values):
    assert ENTRY.validate_python(GOOD).head().confidence(
        new_evidence(np.array([1]), np.array([0.3]), None)
    ) == pytest.approx([0.3])
    with pytest.raises(ValidationError):
        ENTRY.validate_python(values)


def test_a_batch_of_64_takes_microseconds_a_row():
    head, evidence = random_head("probabilities", True, 2, 8), evidence_of(64)
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        head.confidence(evidence)
        times.append(time.perf_counter() - begin)
    assert min(times) / 64 < 100e-6  # it is about 2; a slow machine may be far slower
