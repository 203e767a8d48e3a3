"""Calibrators: monotone, and fitted as an independent reference fits them."""

import json

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import minimize
from scipy.special import expit

from cascade.calibration import CALIBRATORS, Identity, Isotonic, Platt, Temperature, fit_calibrator
from cascade.calibration.calibrators import calibrator_to_dict
from cascade.calibration.policies.stage_entry import CalibratorEntry
from cascade.errors import ScoreTableError
from cascade.routers import SCORES

ENTRY = TypeAdapter(CalibratorEntry)
FINITE = st.floats(-20, 20)


@st.composite
def calibrators(draw):
    kind = draw(st.sampled_from(["identity", "temperature", "platt", "isotonic"]))
    if kind == "temperature":
        return Temperature(draw(st.floats(0.05, 20)))
    if kind == "platt":
        return Platt(draw(st.floats(0, 20)), draw(FINITE))
    if kind == "isotonic":
        size = draw(st.integers(1, 6))
        corners = [sorted(draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))) for _ in range(2)]
        return Isotonic(*map(tuple, corners))
    return Identity()


@given(calibrators())
def test_more_confidence_never_counts_for_less(calibrator):
    confidence = np.linspace(0, 1, 201)
    calibrated = calibrator.confidence(confidence)
    assert (np.diff(calibrated) >= -1e-12).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


@given(st.floats(0.05, 20), st.integers(0, 50))
def test_a_temperature_keeps_the_order_of_the_classes(temperature, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(6) * 0.5, size=20)
    cooled = Temperature(temperature).probabilities(probabilities)
    assert cooled.sum(axis=1) == pytest.approx(1)
    largest_first = -np.sort(-probabilities, axis=1)
    assert (np.diff(Temperature(temperature).probabilities(largest_first), axis=1) <= 1e-15).all()
    assert ((cooled.max(axis=1) <= probabilities.max(axis=1) + 1e-9) == (temperature >= 1)).all() or temperature == 1


def test_temperature_one_changes_nothing_and_zero_probabilities_are_survived():
    probabilities = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    assert Temperature(1.0).probabilities(probabilities) == pytest.approx(probabilities, abs=1e-11)
    assert np.isfinite(Temperature(0.05).probabilities(probabilities)).all()


@given(calibrators())
def test_calibrators_survive_plain_numbers(calibrator):
    read = ENTRY.validate_python(json.loads(json.dumps(calibrator_to_dict(calibrator))))
    assert read.calibrator() == calibrator


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"type": None},
        {"type": []},
        {"type": {}},
        {"type": [[1]]},
        {"type": "plato"},
        {"type": "platt", "slope": -1.0},
        {"type": "platt", "slope": [1.0]},
        {"type": "platt", "slope": "steep"},
        {"type": "platt", "intercept": 10**400},
        {"type": "platt", "tilt": 1.0},
        {"type": "temperature", "temperature": 0.0},
        {"type": "temperature", "temperature": float("nan")},
        {"type": "temperature", "temperature": None},
        {"type": "temperature", "temperature": True},
        {"type": "temperature", "temperature": {}},
        {"type": "isotonic", "x": [0.0, 1.0], "y": [0.0]},
        {"type": "isotonic", "x": [], "y": []},
        {"type": "isotonic", "x": [1.0, 0.0], "y": [0.0, 1.0]},
        {"type": "isotonic", "x": [0.0, 1.0], "y": [1.0, 0.0]},
        {"type": "isotonic", "x": 0.5, "y": 0.5},
        {"type": "isotonic", "x": [[0.0]], "y": [0.0]},
        {"type": "isotonic", "x": ["0"], "y": [0.0]},
    ],
    ids=str,
)
def test_values_that_are_not_a_calibrator_are_refused(values):
    with pytest.raises(ValidationError):
        ENTRY.validate_python(values)


def overconfident(n=400, classes=5, seed=3):
    """Probabilities that are too sure, and labels drawn from the honest ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)) * 1.2
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([random.choice(classes, p=row) for row in honest])
    sharp = honest**2.5
    return sharp / sharp.sum(axis=1, keepdims=True), label


def fit(name, probabilities, label, score="maximum_probability"):
    answer = probabilities.argmax(axis=1)
    return fit_calibrator(name, score, probabilities.max(axis=1), probabilities, label, answer)


def test_the_temperature_that_sharpened_is_found_again():
    probabilities, label = overconfident(n=20_000)
    assert fit("temperature", probabilities, label).temperature == pytest.approx(2.5, rel=0.05)


def test_a_temperature_equals_scikit_learns():
    version = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
    if version < (1, 8):
        pytest.skip(f"scikit-learn {sklearn.__version__} has no temperature scaling")
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    rows, label = random.normal(size=(300, 4)), random.integers(0, 3, 300)
    rows[:, 0] += label
    model = LogisticRegression(C=100).fit(rows[:60], label[:60])
    reference = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(rows[60:], label[60:])
    probabilities = model.predict_proba(rows)
    ours = fit("temperature", probabilities[60:], label[60:])
    assert ours.probabilities(probabilities) == pytest.approx(reference.predict_proba(rows), abs=1e-3)


def smoothed_loss(values, logit, correct):
    """Platt's likelihood, negative, with his targets."""
    rights, wrongs = correct.sum(), (~correct).sum()
    target = np.where(correct, (rights + 1) / (rights + 2), 1 / (wrongs + 2))
    margin = values[0] * logit + values[1]
    return float(np.mean(np.logaddexp(0, margin) - target * margin))


@pytest.mark.parametrize("score", SCORES)
def test_platt_is_the_likelihoods_optimum(score):
    probabilities, label = overconfident()
    correct = probabilities.argmax(axis=1) == label
    ours = fit("platt", probabilities, label, score)
    raw = np.clip(SCORES[score](probabilities), 1e-12, 1 - 1e-12)
    logit = np.log(raw / (1 - raw))
    best = minimize(smoothed_loss, [1.0, 0.0], args=(logit, correct), method="BFGS")
    assert smoothed_loss([ours.slope, ours.intercept], logit, correct) == pytest.approx(best.fun, abs=1e-6)
    assert ours.confidence(raw) == pytest.approx(expit(best.x[0] * logit + best.x[1]), abs=2e-3)


def test_platt_on_a_confidence_that_misleads_is_the_constant_share_of_right_answers():
    random = np.random.default_rng(1)
    confidence = random.random(5000)
    correct = random.random(5000) < 0.9 - 0.6 * confidence
    label = np.zeros(5000, dtype=int)
    platt = fit_calibrator("platt", "margin", confidence, None, label, np.where(correct, 0, 1))
    assert platt.slope == 0
    assert platt.confidence(np.array([0.01, 0.99])) == pytest.approx(correct.mean(), abs=1e-3)


@pytest.mark.parametrize("right", [True, False])
def test_platt_stays_finite_where_all_or_no_answers_are_right(right):
    confidence = np.array([0.0, 0.3, 0.7, 1.0] * 5)
    label = np.zeros(20, dtype=int)
    platt = fit_calibrator("platt", "margin", confidence, None, label, label if right else label + 1)
    assert np.isfinite([platt.slope, platt.intercept]).all()
    calibrated = platt.confidence(confidence)
    assert (calibrated > 0.5).all() == right


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_isotonic_equals_scikit_learns(dtype):
    from sklearn.isotonic import IsotonicRegression

    probabilities, label = overconfident()
    probabilities = probabilities.astype(dtype)
    raw, correct = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == label
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, correct)
    everywhere = np.concatenate([raw, np.linspace(0, 1, 500)])
    ours = fit("isotonic", probabilities, label)
    assert ours.confidence(everywhere) == pytest.approx(reference.predict(everywhere), abs=1e-9)


def test_identity_changes_nothing():
    probabilities, label = overconfident(20)
    assert fit("identity", probabilities, label) == Identity()
    np.testing.assert_array_equal(Identity().confidence(probabilities[0]), probabilities[0])


@pytest.mark.parametrize("name", ["temperature", "platt", "isotonic"])
def test_fitting_makes_an_overconfident_model_honest(name):
    probabilities, label = overconfident(n=4000)
    correct = probabilities.argmax(axis=1) == label
    calibrator = fit(name, probabilities, label)
    calibrated = calibrator.confidence(calibrator.probabilities(probabilities).max(axis=1))
    assert probabilities.max(axis=1).mean() > correct.mean() + 0.1
    assert calibrated.mean() == pytest.approx(correct.mean(), abs=0.02)


def test_a_temperature_without_scores_or_with_foreign_labels_is_refused():
    label = np.array([0, 1])
    with pytest.raises(ScoreTableError, match="needs class probabilities"):
        fit_calibrator("temperature", "margin", np.array([0.5, 0.6]), None, label, label)
    with pytest.raises(ScoreTableError, match="labels must be in"):
        fit("temperature", np.array([[0.4, 0.6], [0.7, 0.3]]), np.array([1, 2]))


def test_every_calibrator_can_be_fitted():
    probabilities, label = overconfident(60)
    assert {type(fit(name, probabilities, label)) for name in CALIBRATORS} == set(CALIBRATORS.values())
