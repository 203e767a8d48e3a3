"""Heads are fitted as scikit-learn fits them; the cost-aware objective is the cascade's own gain and cost."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from cascade.calibration import HEADS, Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.fitting import head_fitting
from cascade.calibration.fitting.cost_aware_fitting import PENALTY, SoftCascade, fit_cost_aware
from cascade.calibration.fitting.head_fitting import fit_head
from cascade.calibration.fitting.router_fitting import fit_routers
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target
from cascade.calibration.table_confidence import table_evidence
from cascade.errors import PolicyError, ScoreTableError
from cascade.routers import SCORES, Agreement
from cascade.routers.heads import head_features

GOAL = Goal.of(max_accuracy_drop=0.02)


def standardised(features):
    return (features - features.mean(axis=0)) / features.std(axis=0)


def test_a_cost_oblivious_head_is_the_logistic_regression_of_being_right(make_table):
    table = make_table(4000, 3, classes=5)
    evidence, right = table_evidence(table)[:, :5], table.correct[:, 0]
    head = fit_head("cost_oblivious", evidence, "probabilities", table.correct.astype(float))
    features = standardised(head_features(evidence, "probabilities", False).T)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(features, right).predict_proba(features)[:, 1]
    assert head.confidence(evidence) == pytest.approx(reference, abs=5e-3)  # except for the smoothed targets
    assert head.confidence(evidence).mean() == pytest.approx(right.mean(), abs=1e-3)


@pytest.mark.filterwarnings("ignore:lbfgs failed")
@pytest.mark.parametrize("name", ["deferral", "deferral_network"])
def test_a_deferral_head_predicts_whether_deferring_would_gain_nothing(make_table, name):
    table = make_table(3000, 3, classes=5)
    evidence, gain = table_evidence(table)[:, :10], table.correct[:, 1:].astype(float)
    head = fit_head(name, evidence, "probabilities", gain)
    stays = ~(table.correct[:, 2] & ~table.correct[:, 1])
    features = standardised(head_features(evidence, "probabilities", True).T)
    if name == "deferral":
        model = LogisticRegression(C=1.0, max_iter=1000).fit(features, stays)
    else:
        decay = head_fitting.NETWORK_DECAY
        model = MLPClassifier((8,), solver="lbfgs", alpha=decay, max_iter=200, random_state=0).fit(features, stays)
    assert head.confidence(evidence) == pytest.approx(model.predict_proba(features)[:, 1], abs=5e-3)


@pytest.mark.parametrize("name", ["cost_oblivious", "deferral", "deferral_network"])
@pytest.mark.parametrize("right", [True, False])
def test_stages_that_are_all_right_or_all_wrong_have_a_head(make_table, name, right):
    evidence = table_evidence(make_table(50, 2, classes=3))[:, :5]
    gain = np.full((50, 2), float(right))
    confidence = fit_head(name, evidence, "probabilities", gain).confidence(evidence)
    assert np.isfinite(confidence).all()
    # Deferring gains nothing where the last stage is no better.
    stays = right or name != "cost_oblivious"
    assert ((confidence > 0.8) if stays else (confidence < 0.2)).all()


def soft_cascade(seed=0, n=300):
    random = np.random.default_rng(seed)
    features = tuple(np.column_stack([random.normal(size=(n, 3)), np.ones(n)]) for _ in range(2))
    gain = (random.random((n, 3)) < np.array([0.6, 0.75, 0.95])).astype(float)
    return SoftCascade(features, gain, random.uniform(0.5, 1.5, (n, 3)) * np.array([0.05, 0.25, 0.7]))


@pytest.mark.parametrize("price", [0.0, 0.1, 3.0])
def test_the_gradient_of_the_cost_aware_objective_is_that_of_finite_differences(price):
    soft = soft_cascade()
    for seed in range(3):
        at = np.random.default_rng(seed).normal(size=8)
        error = check_grad(lambda p: soft.objective(p, price)[0], lambda p: soft.objective(p, price)[1], at)
        assert error < 1e-6
        assert np.abs(soft.objective(at, price)[1]).max() > 1e-4


def test_a_soft_cascade_with_hard_gates_is_the_cascade():
    soft = soft_cascade()
    at = np.random.default_rng(1).normal(size=8) * 1e3
    gates = np.stack(soft.gates(at), axis=1)
    problem = RoutingProblem(gates, soft.gain, np.cumsum(soft.cost, axis=1))
    assert soft.means(at) == pytest.approx(problem.value(np.full(2, 0.5)), abs=2e-2)
    gain, cost = soft.means(at)
    objective = soft.objective(at, 0.3)[0] - 0.5 * PENALTY * at @ at
    assert objective == pytest.approx(1 - gain + 0.3 * cost)


def test_cost_aware_heads_reach_their_target_and_use_informative_features():
    random = np.random.default_rng(0)
    n = 2000
    x = random.normal(size=n)
    right = random.random(n) < 1 / (1 + np.exp(-2 * x - 1))
    gain = np.stack([right, np.ones(n)], axis=1).astype(float)
    features = [np.column_stack([x, random.normal(size=n)])]
    cost = np.tile([1.0, 11.0], (n, 1))
    (layer,) = fit_cost_aware(features, gain, cost, Target(least_gain=0.95))
    gate = 1 / (1 + np.exp(-(features[0] @ layer.weights[0] + layer.biases[0])))
    assert gate @ gain[:, 0] + (1 - gate).sum() >= 0.95 * n - 1e-6
    # Only the first feature is informative.
    assert layer.weights[0, 0] > 5 * abs(layer.weights[0, 1])
    (cheap,) = fit_cost_aware(features, gain, cost, Target(most_cost=2.0))
    spent = 1 + 10 * (1 - 1 / (1 + np.exp(-(features[0] @ cheap.weights[0] + cheap.biases[0])))).mean()
    assert spent < 1 + 10 * (1 - gate).mean()


def specialists(n=3000, seed=0):
    """The first stage's sureness says nothing, but whether the second agrees with it says all."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 5, n)
    right = random.random((n, 3)) < np.array([0.8, 0.8, 1.0])
    wrong = (label[:, None] + random.integers(1, 5, (n, 3))) % 5
    prediction = np.where(right, label[:, None], wrong)
    return ScoreTable(
        prediction, random.uniform(0.5, 1, (n, 3)), np.array([1.0, 1.0, 20.0]), np.array(list("abc")), "ms", label
    )


@pytest.mark.parametrize("head", ["agreement", "deferral", "deferral_network"])
def test_heads_on_earlier_stages_save_where_agreement_is_more_informative_than_confidence(head):
    table, other = specialists(), specialists(seed=1)
    plain = calibrate(table, target_accuracy=0.96)
    learned = calibrate(
        table, target_accuracy=0.96, routers=[("maximum_probability", "identity"), *[(head, "identity")] * 2]
    )
    seen = evaluate(other, learned)
    assert seen.accuracy > 0.95
    assert seen.mean_cost < 0.7 * evaluate(other, plain).mean_cost


@pytest.mark.parametrize(
    ("head", "calibrator"), [*((head, "identity") for head in HEADS), ("deferral", "platt"), ("deferral", "isotonic")]
)
@pytest.mark.parametrize("scores", [True, False])
def test_every_head_calibrates_every_target_and_survives_its_file(make_table, head, calibrator, scores):
    table = make_table(200, 3, classes=4 if scores else None)
    budget = float(table.cumulative_cost[0, 1])
    for target in ({"max_accuracy_drop": 0.05}, {"target_agreement": 0.8}, {"max_cost": budget}):
        policy = calibrate(table, **target, routers=[(head, calibrator)] * 3)
        again = Policy.from_json(policy.to_json())
        assert again == policy
        assert evaluate(table, again).to_dict() == evaluate(table, policy).to_dict()
        assert policy.needs_evidence
        assert policy.needs_probabilities == (scores and head != "agreement")
        assert policy.to_json() == calibrate(table, **target, routers=[(head, calibrator)] * 3).to_json()


@pytest.mark.parametrize("head", HEADS)
def test_heads_can_be_certified(make_table, head):
    policy = calibrate(
        make_table(3000, 2, classes=4), max_accuracy_drop=0.2, delta=0.1, routers=[(head, "identity")] * 2
    )
    assert policy.certificate["guarantee"] == "certified"


@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("head", HEADS)
def test_any_number_of_stages(make_table, head, stages):
    table = make_table(80, stages, classes=3)
    routers = fit_routers(table, [(head, "identity")] * stages, GOAL)
    assert all(router.head.fits(k) for k, router in enumerate(routers))
    assert RoutingProblem.from_table(table, routers, agreement=False).confidence.shape == (80, stages - 1)


def test_stages_may_have_different_rules(make_table):
    choices = [("margin", "temperature"), ("deferral", "platt"), ("negative_entropy", "isotonic")]
    routers = fit_routers(make_table(200, 3, classes=3), choices, GOAL)
    assert [router.score for router in routers] == ["margin", None, "negative_entropy"]
    assert [router.head is None for router in routers] == [True, False, True]


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ([("margin", "platt")], "2 pairs"),
        ([("loudness", "platt")] * 2, "'agreement'.*got 'loudness'"),
        ([("margin", "ruler")] * 2, "got 'ruler'"),
        ([("deferral", "temperature")] * 2, "a temperature is applied to class probabilities"),
        ([("cost_aware", "identity"), ("margin", "identity"), ("margin", "identity")], "trained together"),
    ],
    ids=str,
)
def test_choices_that_do_not_go_together_are_refused(make_table, choices, match):
    with pytest.raises(ValueError, match=match):
        fit_routers(make_table(20, max(2, len(choices)), classes=3), choices, GOAL)


def test_a_head_on_probabilities_cannot_be_replayed_without_them(make_table):
    policy = calibrate(make_table(100, 2, classes=3), max_accuracy_drop=0.5, routers=[("deferral", "identity")] * 2)
    with pytest.raises(ScoreTableError, match="'stage0' has a head on class probabilities"):
        evaluate(make_table(100, 2), policy)


def test_a_head_in_another_place_is_refused(make_table):
    policy = calibrate(make_table(100, 3, classes=3), max_accuracy_drop=0.5, routers=[("deferral", "identity")] * 3)
    with pytest.raises(PolicyError, match="does not fit its place"):
        Policy(policy.stages, (policy.routers[1], policy.routers[0], policy.routers[2]), policy.thresholds)


def test_names_of_scores_and_heads_are_different():
    assert not set(SCORES) & set(HEADS)
    assert isinstance(fit_head("agreement", np.zeros((1, 5)), "confidence", np.zeros((1, 1))), Agreement)
