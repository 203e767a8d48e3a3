"""Certified policies satisfy their guarantee with the stated probability: the tests, the sequence, the whole."""

import numpy as np
import pytest
from drawn_table import draw

from cascade.calibration import InfeasibleTarget, calibrate, evaluate
from cascade.calibration.certificates.certification import certify, split_rows
from cascade.calibration.certificates.cost_guarantee import CostGuarantee
from cascade.calibration.certificates.goal import Goal
from cascade.calibration.certificates.guarantees import DropGuarantee, GainGuarantee
from cascade.calibration.routing_problem import RoutingProblem

LEVEL = 0.1
SAMPLES = 600


def most_errors(risk, samples):
    """Errors that a valid procedure stays below, but for three standard errors."""
    return risk * samples + 3 * np.sqrt(risk * (1 - risk) * samples)


@pytest.mark.parametrize(("mean", "rows"), [(0.9, 200), (0.99, 500), (0.5, 30)])
def test_a_violated_guarantee_of_gain_is_certified_with_probability_delta_at_most(mean, rows):
    rng = np.random.default_rng(1)
    outcomes = (rng.random((SAMPLES, rows)) < mean).astype(float)
    errors = sum(GainGuarantee(mean + 1e-9).p_value(outcome) <= LEVEL for outcome in outcomes)
    assert errors <= most_errors(LEVEL, SAMPLES)


@pytest.mark.parametrize(
    ("drop", "changed", "rows"), [(0.02, 0.05, 800), (0.0, 0.04, 800), (0.01, 0.4, 300), (0.1, 0.5, 60), (0.1, 0.8, 60)]
)
def test_a_violated_guarantee_of_drop_is_certified_with_probability_delta_at_most(drop, changed, rows):
    rng = np.random.default_rng(2)
    shares = [(changed - drop) / 2, 1 - changed, (changed + drop) / 2]
    outcomes = rng.choice([-1.0, 0.0, 1.0], p=shares, size=(SAMPLES, rows))
    errors = sum(DropGuarantee(drop).p_value(outcome) <= LEVEL for outcome in outcomes)
    assert errors <= most_errors(LEVEL, SAMPLES)


@pytest.mark.parametrize("rows", [50, 1000])
def test_a_violated_guarantee_of_cost_is_certified_with_probability_delta_at_most(rows):
    rng = np.random.default_rng(4)
    costs = rng.choice([1.0, 7.0, 37.0], p=[0.6, 0.3, 0.1], size=(SAMPLES, rows))
    guarantee = CostGuarantee(0.6 + 2.1 + 3.7, 37.0, LEVEL)
    assert sum(guarantee.p_value(outcome) <= LEVEL for outcome in costs) <= most_errors(LEVEL, SAMPLES)


def test_a_satisfied_guarantee_is_refuted_with_probability_delta_at_most():
    rng = np.random.default_rng(6)
    gains = (rng.random((SAMPLES, 300)) < 0.9).astype(float)
    assert sum(GainGuarantee(0.9).p_value_satisfied(outcome) <= LEVEL for outcome in gains) <= most_errors(
        LEVEL, SAMPLES
    )
    for drop, changed in ((0.02, 0.05), (0.0, 0.04), (0.01, 0.4), (0.1, 0.5), (0.1, 0.8)):
        drops = rng.choice(
            [-1.0, 0.0, 1.0], p=[(changed - drop) / 2, 1 - changed, (changed + drop) / 2], size=(SAMPLES, 300)
        )
        errors = sum(DropGuarantee(drop, LEVEL).p_value_satisfied(outcome) <= LEVEL for outcome in drops)
        assert errors <= most_errors(LEVEL, SAMPLES)
    costs = rng.choice([1.0, 7.0, 37.0], p=[0.6, 0.3, 0.1], size=(SAMPLES, 300))
    guarantee = CostGuarantee(0.6 + 2.1 + 3.7, 37.0, LEVEL)
    assert sum(guarantee.p_value_satisfied(outcome) <= LEVEL for outcome in costs) <= most_errors(LEVEL, SAMPLES)


def test_guarantees_that_are_clearly_violated_are_refuted():
    rng = np.random.default_rng(7)
    assert GainGuarantee(0.9).p_value_satisfied((rng.random(2000) < 0.8).astype(float)) < 1e-6
    assert DropGuarantee(0.02).p_value_satisfied(rng.choice([-1.0, 0.0, 1.0], p=[0.02, 0.9, 0.08], size=2000)) < 0.01
    assert DropGuarantee(0.02).p_value_satisfied(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.2, 0.7], size=200)) < 0.01
    # The bets end when they have reached the level that they aim at.
    assert CostGuarantee(10.0, 37.0, 1e-6).p_value_satisfied(rng.choice([10.0, 20.0], size=2000)) <= 1e-6


def test_guarantees_that_are_clearly_satisfied_are_certified():
    rng = np.random.default_rng(5)
    assert GainGuarantee(0.9).p_value((rng.random(2000) < 0.95).astype(float)) < 1e-6
    assert DropGuarantee(0.02).p_value(rng.choice([-1.0, 0.0, 1.0], p=[0.02, 0.96, 0.02], size=2000)) < 0.01
    assert CostGuarantee(10.0, 37.0, 1e-6).p_value(rng.choice([1.0, 7.0], size=2000)) <= 1e-6


def test_the_sequence_stops_at_the_first_failure():
    problem = RoutingProblem(np.linspace(0, 1, 100)[:, None], np.ones((100, 2)), np.tile([1.0, 3.0], (100, 1)))

    class EveryOther(GainGuarantee):
        """Passes the first two and the fourth."""

        seen = 0

        def p_value(self, outcome):
            EveryOther.seen += 1
            return 1.0 if EveryOther.seen == 3 else 0.0

    class Asked(Goal):
        """A goal that is tested by one given guarantee."""

        tested = EveryOther(0.5)

        def guarantees(self, problem, delta):
            return [self.tested]

    class Impossible(Asked):
        """A goal that nothing reaches."""

        tested = GainGuarantee(1.1)

    sequence = [np.array([threshold]) for threshold in (0.9, 0.8, 0.7, 0.6)]
    found = certify(Asked("target_accuracy", 0.5), problem, sequence, 0.05, problem)
    assert found.thresholds.tolist() == [0.8]
    assert EveryOther.seen == 3
    assert certify(Impossible("target_accuracy", 0.5), problem, sequence, 0.05, problem) is None


@pytest.mark.parametrize("rows", [2, 3, 10, 1001])
def test_every_row_either_searches_or_tests(rows):
    search, test = split_rows(rows, 0)
    assert sorted([*search, *test]) == list(range(rows))
    assert len(search)
    assert len(test)


BROKEN = {
    "max_accuracy_drop": lambda truth, value: truth.last_stage_accuracy - truth.accuracy > value,
    "target_accuracy": lambda truth, value: truth.accuracy < value,
    "target_agreement": lambda truth, value: truth.agreement < value,
    "max_cost": lambda truth, value: truth.mean_cost > value,
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [("max_accuracy_drop", 0.03), ("target_accuracy", 0.92), ("target_agreement", 0.9), ("max_cost", 15.0)],
)
def test_certified_policies_violate_their_guarantee_with_probability_delta_at_most(name, value, ties):
    rng = np.random.default_rng(6)
    population = draw(rng, 60_000, ties)
    samples, broken, certified = 40, 0, 0
    for seed in range(samples):
        try:
            policy = calibrate(draw(rng, 600, ties), delta=LEVEL, seed=seed, **{name: value})
        except InfeasibleTarget:
            continue
        certified += 1
        broken += BROKEN[name](evaluate(population, policy), value)
    assert certified > samples / 2
    assert broken <= most_errors(LEVEL, samples)


def test_the_certificate_records_the_tests():
    policy = calibrate(draw(np.random.default_rng(7), 1000, False), max_accuracy_drop=0.05, delta=0.05, seed=3)
    certificate = policy.certificate
    assert certificate["guarantee"] == "certified"
    assert (certificate["delta"], certificate["seed"], certificate["target"]) == (0.05, 3, {"max_accuracy_drop": 0.05})
    (test,) = certificate["tests"]
    assert (test["target"], test["test"], test["rows"]) == ("max_accuracy_drop", "exact paired trinomial", 850)
    assert test["p_value"] <= 0.05
    assert test["observed"] < test["bound"] <= 0.05


def test_two_guarantees_are_satisfied_at_once():
    rng = np.random.default_rng(10)
    population = draw(rng, 60_000, False)
    targets = {"max_accuracy_drop": 0.03, "max_cost": 21.0}
    samples, broken, certified = 40, 0, 0
    for seed in range(samples):
        try:
            policy = calibrate(draw(rng, 800, False), delta=LEVEL, seed=seed, **targets)
        except InfeasibleTarget:
            continue
        certified += 1
        assert [test["target"] for test in policy.certificate["tests"]] == list(targets)
        truth = evaluate(population, policy)
        broken += any(BROKEN[name](truth, value) for name, value in targets.items())
    assert certified > samples / 2
    assert broken <= most_errors(LEVEL, samples)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            {"target_accuracy": 0.94, "max_cost": 2.0},
            "at a mean cost of at most 2 ms; the nearest budget",
        ),
        ({"target_accuracy": 0.999, "max_cost": 30.0}, "accuracy 0.999 cannot be certified"),
    ],
)
def test_of_two_targets_the_one_that_fails_is_named(targets, message):
    table = draw(np.random.default_rng(11), 2000, False)
    with pytest.raises(InfeasibleTarget, match=message) as caught:
        calibrate(table, **targets)
    name = "max_cost" if "budget" in message else "target_accuracy"
    slack = 1e-6 if name == "max_cost" else -1e-6
    others = targets if name == "max_cost" else {}
    assert calibrate(table, **{**others, name: caught.value.nearest + slack}).certificate["guarantee"] == "certified"


def test_without_a_guarantee_a_budget_too_small_names_the_cost_it_takes():
    table = draw(np.random.default_rng(12), 2000, False)
    cheapest = evaluate(table, calibrate(table, target_accuracy=0.93, guarantee="none")).mean_cost
    with pytest.raises(InfeasibleTarget, match="the nearest budget") as caught:
        calibrate(table, target_accuracy=0.93, max_cost=cheapest - 0.1, guarantee="none")
    assert caught.value.nearest == pytest.approx(cheapest)
    within = calibrate(table, target_accuracy=0.93, max_cost=cheapest + 0.1, guarantee="none")
    assert evaluate(table, within).mean_cost == pytest.approx(cheapest)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_a_delta_out_of_range_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        calibrate(draw(np.random.default_rng(0), 50, False), target_accuracy=0.5, delta=delta)


def test_one_row_certifies_nothing():
    table = draw(np.random.default_rng(0), 1, False)
    with pytest.raises(InfeasibleTarget):
        calibrate(table, target_accuracy=0.5, delta=0.05)
