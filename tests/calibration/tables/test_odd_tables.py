"""Odd tables: for any table, calibration ends in a policy that fits it or in a named refusal."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cascade.calibration import InfeasibleTarget, Policy, ScoreTable, calibrate, choose_cascade, evaluate
from cascade.errors import PolicyError, ScoreTableError

TARGETS = {"target_accuracy": 0.7, "max_accuracy_drop": 0.1, "target_agreement": 0.7, "max_cost": 3.0}


@st.composite
def tables(draw):
    """1 to 60 rows, 1 to 4 stages; ties, constant columns, free and falling costs, one class, duplicates."""
    n, stages = draw(st.integers(1, 60)), draw(st.integers(1, 4))
    levels = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)
    confidence = draw(arrays.arrays(np.float64, (n, stages), elements=levels, fill=st.just(0.5)))
    prediction = draw(arrays.arrays(np.int64, (n, stages), elements=st.integers(0, 3), fill=st.just(0)))
    label = draw(st.none() | arrays.arrays(np.int64, n, elements=st.integers(0, 5), fill=st.just(0)))
    shape = draw(st.sampled_from([(stages,), (n, stages)]))
    cost = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 100.0])))
    return ScoreTable(prediction, confidence, cost, np.array([f"s{k}" for k in range(stages)]), label=label)


@given(tables(), st.sampled_from([*TARGETS]), st.sampled_from(["certified", "none"]))
@settings(max_examples=150)
def test_any_table_gives_a_policy_or_a_named_refusal(table, name, guarantee):
    target = TARGETS[name]
    if table.label is None and name in ("target_accuracy", "max_accuracy_drop"):
        with pytest.raises(ScoreTableError, match="target_agreement"):
            calibrate(table, **{name: target}, guarantee=guarantee)
        return
    try:
        policy = calibrate(table, **{name: target}, guarantee=guarantee)
    except InfeasibleTarget:
        return
    assert Policy.from_json(policy.to_json()) == policy
    assert policy.certificate["guarantee"] == guarantee
    seen = evaluate(table, policy)
    if guarantee == "none":
        kept = {
            "target_accuracy": (seen.accuracy or 0) >= target - 1e-9,
            "max_accuracy_drop": (seen.last_stage_accuracy or 0) - (seen.accuracy or 0) <= target + 1e-9,
            "target_agreement": seen.agreement >= target - 1e-9,
            "max_cost": seen.mean_cost <= target * (1 + 1e-9),
        }
        assert kept[name]


@given(tables(), st.sampled_from(["platt", "isotonic"]))
@settings(max_examples=40)
def test_any_table_can_be_calibrated(table, calibrator):
    routers = [("maximum_probability", calibrator)] * table.stages
    policy = calibrate(table, max_cost=1e6, guarantee="none", routers=routers)
    assert np.isfinite(evaluate(table, policy).mean_cost)


def whole(**changes):
    table = ScoreTable(
        np.zeros((4, 2), dtype=int),
        np.full((4, 2), 0.5),
        np.ones(2),
        np.array(["a", "b"]),
        label=np.zeros(4, dtype=int),
    )
    return dataclasses.replace(table, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": np.array([[0.1, np.nan]] * 4)}, r"4 values are not, first confidence\[0, 1\] = nan"),
        ({"confidence": np.full((4, 2), 1.5)}, "confidence must be"),
        ({"confidence": np.full((4, 2), -0.1)}, "confidence must be"),
        ({"cost": np.array([1.0, -1.0])}, "cost must be finite and >= 0"),
        ({"cost": np.array([1.0, np.inf])}, "cost must be finite and >= 0"),
        ({"label": np.zeros(3, dtype=int)}, "label must be 4 integers"),
        ({"label": np.zeros(4)}, "label must be 4 integers"),
        ({"label": np.array(["a"] * 4)}, "label_ids maps names to ids"),
        ({"label": np.array([0, 0, -1, -1])}, r"2 values are not, first label\[2\] = -1 \(leave rows without a label"),
        ({"label": np.ma.array([0] * 4, mask=[0, 0, 1, 0])}, "label must have a value everywhere"),
        ({"prediction": np.full((4, 2), -1)}, r"prediction must be classes >= 0; 8 .* prediction\[0, 0\] = -1"),
        ({"classes": np.array(["x", "y"]), "label": np.array([0, 1, 2, 0])}, r"from 0 to 1; .* label\[2\] = 2"),
        ({"classes": np.array(["x"]), "prediction": np.array([[0, 1]] * 4)}, r"from 0 to 0; .* prediction\[0, 1\] = 1"),
        ({"scores": np.full((4, 2, 2), 0.5), "label": np.full(4, 2)}, "label must be classes from 0 to 1; 4"),
        (
            {"scores": np.full((4, 2, 2), 0.5), "prediction": np.full((4, 2), 2)},
            "prediction must be classes from 0 to 1",
        ),
        ({"scores": np.full((4, 2, 2), 0.5), "classes": np.array(["x"])}, "column for each of the 1 classes; got 2"),
        ({"classes": np.array(["x", "x"])}, "classes must be different names"),
        ({"classes": np.array([1, 2])}, r"classes must be \(C,\) names; got int64"),
        ({"classes": np.array("x")}, r"classes must be \(C,\) names"),
        ({"prediction": np.zeros((4, 3), dtype=int)}, "confidence must be"),
        ({"prediction": np.zeros((0, 2), dtype=int)}, "n, K >= 1"),
        ({"stage": np.array(["a", "a"])}, "different names"),
        ({"model": np.array(["x"])}, "model must be 2 texts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_table_that_contradicts_itself_is_refused_with_the_place(changes, message):
    with pytest.raises(ScoreTableError, match=message):
        whole(**changes)


def test_one_class_and_constant_confidences_certify_what_is_certain():
    table = whole(
        prediction=np.zeros((500, 2), dtype=int),
        confidence=np.full((500, 2), 0.3),
        label=np.zeros(500, dtype=int),
    )
    policy = calibrate(table, target_accuracy=0.98)
    assert evaluate(table, policy).stage_share.tolist() == [1.0, 0.0]


def test_costs_that_fall_make_the_later_stage_no_worse_a_choice():
    rng = np.random.default_rng(0)
    label = np.zeros(400, dtype=int)
    prediction = np.stack([(rng.random(400) < 0.3).astype(int), (rng.random(400) < 0.1).astype(int)], axis=1)
    table = ScoreTable(
        prediction, rng.random((400, 2)), np.array([10.0, 0.1]), np.array(["expensive", "cheap"]), label=label
    )
    policy = calibrate(table, target_accuracy=0.85, guarantee="none")
    assert evaluate(table, policy).accuracy >= 0.85


TABLE = ScoreTable(np.zeros((4, 2), int), np.ones((4, 2)), np.array([1.0, 2.0]), np.array(["a", "b"]), label=[0] * 4)
POLICY = Policy.from_thresholds(("a", "b"), np.array([0.5]))


@pytest.mark.parametrize("wrong", ["scores.npz", Path("scores.npz"), None, {"prediction": []}, POLICY])
@pytest.mark.parametrize(
    "call",
    [
        lambda table: evaluate(table, POLICY),
        lambda table: calibrate(table, max_accuracy_drop=0.0),
        lambda table: choose_cascade(table, target_accuracy=0.5),
    ],
)
def test_an_argument_that_is_not_a_table_is_refused_by_its_type_and_with_the_way_to_read_one(call, wrong):
    with pytest.raises(ScoreTableError, match=rf"got {type(wrong).__name__}\. ScoreTable\.load"):
        call(wrong)


@pytest.mark.parametrize("wrong", ["policy.json", None, TABLE])
def test_an_argument_that_is_not_a_policy_is_refused_likewise(wrong):
    with pytest.raises(PolicyError, match=rf"got {type(wrong).__name__}\. Policy\.load"):
        evaluate(TABLE, wrong)
