"""Certified policies that may abstain satisfy all their guarantees with the stated probability."""

import numpy as np
import pytest
from scipy.stats import binom

from cascade.calibration import InfeasibleTarget, ScoreTable, calibrate, evaluate
from cascade.calibration.certificates.guarantees import AbstentionGuarantee, GainGuarantee
from cascade.calibration.routing_problem import RoutingProblem

LEVEL = 0.1
COST = np.array([1.0, 6.0, 30.0])


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    """Nothing here is about the last per cent of cost."""
    monkeypatch.setattr("cascade.calibration.certificates.sequences.LARGEST_GRID", 10_000)


def most_errors(risk, samples):
    """Errors that a valid procedure stays below, but for three standard errors."""
    return risk * samples + 3 * np.sqrt(risk * (1 - risk) * samples)


def draw(rng, rows):
    """Three models of rising skill on rows of random difficulty."""
    difficulty = rng.normal(size=(rows, 1))
    ease = np.array([0.8, 1.7, 2.6]) - difficulty
    confidence = 1 / (1 + np.exp(-1.7 * (ease + 0.5 * rng.normal(size=ease.shape))))
    right = rng.random(ease.shape) < 1 / (1 + np.exp(-2.2 * ease))
    prediction = np.where(right, 0, [1, 2, 3])
    return ScoreTable(prediction, confidence, COST, np.array(["a", "b", "c"]), label=np.zeros(rows, dtype=int))


BROKEN = {
    "target_accuracy": lambda truth, value: truth.accuracy < value,
    "max_abstain": lambda truth, value: truth.abstained > value,
    "max_cost": lambda truth, value: truth.mean_cost > value,
}


@pytest.mark.parametrize(
    "targets",
    [
        {"target_accuracy": 0.97, "max_abstain": 0.1},
        {"target_accuracy": 0.955, "max_cost": 26.0, "max_abstain": 0.15},
        {"max_cost": 12.0, "max_abstain": 0.1},
    ],
)
def test_a_guarantee_is_violated_with_probability_delta_at_most(targets, monkeypatch):
    monkeypatch.setattr("cascade.calibration.certificates.refusal.EASIER", 2)
    rng = np.random.default_rng(1)
    population = draw(rng, 60_000)
    samples, broken, certified = 40, 0, 0
    for seed in range(samples):
        try:
            policy = calibrate(draw(rng, 800), delta=LEVEL, seed=seed, **targets)
        except InfeasibleTarget:
            continue
        certified += 1
        truth = evaluate(population, policy)
        broken += any(BROKEN[name](truth, value) for name, value in targets.items())
    assert certified > samples / 2
    assert broken <= most_errors(LEVEL, samples)


def test_a_violated_guarantee_of_the_answered_rows_is_certified_with_probability_delta_at_most():
    rng = np.random.default_rng(2)
    samples, rows, least = 600, 150, 0.9
    errors = {"accuracy": 0, "abstained": 0}
    for _ in range(samples):
        stage = np.where(rng.random(rows) < 0.3, 2, rng.integers(0, 2, rows))
        gain = np.column_stack([rng.random((rows, 2)) < least - 1e-9, np.full(rows, least)]).astype(float)
        problem = RoutingProblem(np.zeros((rows, 2)), gain, np.ones((rows, 3)), abstains=True)
        guarantees = {"accuracy": GainGuarantee(least), "abstained": AbstentionGuarantee(0.3 - 1e-9)}
        for name, guarantee in guarantees.items():
            errors[name] += guarantee.p_value(guarantee.outcome(problem, stage)) <= LEVEL
    assert max(errors.values()) <= most_errors(LEVEL, samples)
    assert min(errors.values()) > 0.4 * LEVEL * samples  # and the tests are not needlessly strict


@pytest.mark.parametrize(("abstained", "rows", "most"), [(0, 100, 0.05), (3, 100, 0.05), (10, 100, 0.1), (0, 5, 0.0)])
def test_the_p_value_of_an_abstained_share_is_scipys(abstained, rows, most):
    outcome = np.zeros(rows)
    outcome[:abstained] = 1
    assert AbstentionGuarantee(most).p_value(outcome) == pytest.approx(binom.cdf(abstained, rows, most))
    assert AbstentionGuarantee(most).p_value_satisfied(outcome) == pytest.approx(binom.sf(abstained - 1, rows, most))


def test_without_answers_no_accuracy_is_certified():
    problem = RoutingProblem(np.zeros((5, 1)), np.ones((5, 2)), np.ones((5, 2)), abstains=True)
    outcome = GainGuarantee(0.5).outcome(problem, np.full(5, 1))
    assert len(outcome) == 0
    assert GainGuarantee(0.5).p_value(outcome) == 1.0


def test_the_certificate_has_a_test_of_every_target():
    targets = {"target_accuracy": 0.96, "max_cost": 25.0, "max_abstain": 0.1}
    policy = calibrate(draw(np.random.default_rng(3), 2000), **targets)
    certificate = policy.certificate
    assert certificate["target"] == targets
    accuracy, cost, abstained = certificate["tests"]
    assert [test["target"] for test in certificate["tests"]] == list(targets)
    assert cost["rows"] == abstained["rows"] == 1700
    assert accuracy["rows"] == round(1700 * (1 - abstained["observed"]))
    assert accuracy["observed"] >= accuracy["bound"] >= 0.96
    assert 0 < abstained["observed"] <= abstained["bound"] <= 0.1
    assert certificate["observed"]["abstained"] > 0


def test_abstaining_reaches_an_accuracy_above_the_last_stage():
    table = draw(np.random.default_rng(4), 6000)
    target = float(table.correct[:, -1].mean())
    with pytest.raises(InfeasibleTarget):
        calibrate(table, target_accuracy=target)
    truth = evaluate(draw(np.random.default_rng(5), 60_000), calibrate(table, target_accuracy=target, max_abstain=0.1))
    assert truth.accuracy >= target
    assert 0 < truth.abstained <= 0.1
    assert truth.mean_cost < 0.9 * truth.last_stage_cost


@pytest.mark.parametrize(
    ("targets", "name", "message"),
    [
        (
            {"target_accuracy": 0.9999, "max_abstain": 0.02},
            "target_accuracy",
            "accuracy 0.9999 beside max_abstain 0.02 cannot be certified",
        ),
        ({"target_accuracy": 0.96, "max_cost": 2.0, "max_abstain": 0.1}, "max_cost", "the nearest budget"),
        ({"target_accuracy": 0.9, "max_abstain": 0.001}, "max_abstain", "abstained share 0.001 beside target_accuracy"),
        ({"max_cost": 1.01, "max_abstain": 0.1}, "max_cost", "mean cost 1.01 ms beside max_abstain"),
    ],
)
def test_a_refusal_names_the_target_that_fails_and_the_nearest_that_does_not(targets, name, message):
    table = draw(np.random.default_rng(6), 1000)
    with pytest.raises(InfeasibleTarget, match=message) as caught:
        calibrate(table, **targets)
    policy = calibrate(table, **targets | {name: caught.value.nearest})
    assert policy.certificate["guarantee"] == "certified"


def test_a_single_stage_may_abstain():
    table = draw(np.random.default_rng(7), 2000).select((2,))
    policy = calibrate(table, target_accuracy=0.985, max_abstain=0.1)
    assert policy.thresholds.shape == (0,)
    assert 0 < evaluate(table, policy).abstained < 0.1


@pytest.mark.parametrize(
    "targets", [{"target_accuracy": 0.95, "max_abstain": 0.15}, {"max_cost": 40.0, "max_abstain": 0.1}]
)
def test_a_stage_that_does_not_pay_is_not_run(targets):
    table = draw(np.random.default_rng(3), 4000)
    idle = 1  # no better than the stage before it, with low confidence everywhere
    table.prediction[:, idle] = table.prediction[:, 0]
    table.confidence[:, idle] = 0.0
    policy = calibrate(table, **targets)
    assert policy.certificate["guarantee"] == "certified"
    assert not policy.runs[idle]
    assert evaluate(table, policy).mean_cost < COST[0] + COST[2]
