"""Verdicts on targets: the interval decides, the estimate is that of these rows, and nothing is claimed beyond them."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from drawn_table import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, Policy, calibrate, evaluate, judge
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.calibration.evaluation.judgement import at_the_policys_cost
from cascade.errors import PolicyError
from cascade.routers import NEVER

NAMES = ("a", "b", "c")
TARGETS = ("target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost")


def policy_for(target, thresholds=(0.8, 0.7), guarantee="certified", **options):
    policy = Policy.from_thresholds(NAMES, np.array(thresholds))
    certificate = {"guarantee": guarantee, "delta": 0.05, "target": target}
    return replace(policy, cost=np.array([1.0, 6.0, 30.0]), certificate=certificate, **options)


@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from(TARGETS), st.floats(0, 1), st.floats(0.5, 0.99))
@settings(max_examples=40)
def test_the_verdict_is_where_the_interval_lies_and_the_interval_is_around_the_estimate(seed, rows, name, share, level):
    value = 0.1 + 40 * share if name == "max_cost" else share
    (judged,) = judge(draw(np.random.default_rng(seed), rows), policy_for({name: value}), level).targets
    low, high = judged.interval
    assert low <= judged.estimate <= high
    assert (judged.rows, judged.level) == (rows, pytest.approx(level))
    reached, refuted = (high <= value, value < low) if name.startswith("max_") else (value <= low, high < value)
    assert (judged.verdict == "holds") is reached
    assert (judged.verdict == "violated") is refuted
    assert refuted is False or judged.p_value <= (1 - level) / 2 * (1 + 1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_about_as_many_intervals_as_the_level_claims_hold_the_truth(name):
    rng = np.random.default_rng(3)
    policy = policy_for({name: 20.0 if name == "max_cost" else 0.5})
    (truth,) = judge(draw(rng, 200_000), policy).targets
    judged = [judge(draw(rng, 300), policy, level=0.8).targets[0].interval for _ in range(40)]
    inside = sum(low <= truth.estimate <= high for low, high in judged)
    assert inside >= 0.8 * 40 - 3 * np.sqrt(40 * 0.8 * 0.2)
    assert np.mean([low for low, _ in judged]) < truth.estimate < np.mean([high for _, high in judged])


def test_the_estimates_are_those_of_the_evaluation_and_the_drop_is_against_the_last_stage_on_the_same_rows():
    table = draw(np.random.default_rng(4), 500)
    seen = evaluate(table, policy_for({}))
    expected = {
        "target_accuracy": seen.accuracy,
        "max_accuracy_drop": seen.last_stage_accuracy - seen.accuracy,
        "target_agreement": seen.agreement,
        "max_cost": seen.mean_cost,
    }
    for name, estimate in expected.items():
        (judged,) = judge(table, policy_for({name: 0.5})).targets
        assert judged.estimate == pytest.approx(estimate)
    abstaining = policy_for({"target_accuracy": 0.9, "max_abstain": 0.1}, abstain_below=0.9)
    seen = evaluate(table, abstaining)
    accuracy, abstained = judge(table, abstaining).targets
    assert (accuracy.estimate, abstained.estimate) == pytest.approx((seen.accuracy, seen.abstained))
    assert accuracy.rows == 500 - round(500 * seen.abstained) < abstained.rows == 500


def test_a_cost_by_curves_is_the_predicted_one_at_the_shares_of_these_rows():
    rng = np.random.default_rng(5)
    sizes = np.array([1, 8, 64])
    curves = [CostCurve(sizes, sizes * cost + 5.0, np.zeros(3)) for cost in (0.2, 1.0, 4.0)]
    policy = calibrate(draw(rng, 2000).with_curves(curves), max_accuracy_drop=0.05, max_cost=4.6)
    fresh = draw(rng, 1000, harder=0.3).with_curves(curves)
    drop, cost = judge(fresh, policy).targets
    assert cost.estimate == pytest.approx(evaluate(fresh, policy).mean_cost)
    assert cost.interval[0] <= cost.estimate <= cost.interval[1]
    assert drop.target == "max_accuracy_drop"


def test_costs_are_those_of_the_policy_unless_rows_have_their_own():
    table, policy = draw(np.random.default_rng(6), 500), policy_for({"max_cost": 20.0})
    slow_machine = replace(table, cost=table.cost * 10)
    assert judge(slow_machine, policy) == judge(table, policy)
    own = np.column_stack([table.confidence[:, :2], 200 + 100 * table.confidence[:, 2]])
    (judged,) = judge(replace(table, cost=own), policy).targets
    assert (judged.verdict, judged.interval[1]) == ("violated", np.inf)  # no bound of the cost per row is declared
    assert json.loads(json.dumps(judged.to_dict(), allow_nan=False))["interval"][1] is None


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("differ", [0.0, 0.5])
def test_rows_that_cost_the_same_here_keep_the_bound_that_is_declared(factor, differ):
    """A sample without one of the rare expensive rows is no proof that there are none."""
    rng = np.random.default_rng(5)
    table = draw(rng, 300)
    rows = np.tile(table.cost, (300, 1))
    rows[:, 0] *= rng.uniform(1 - differ, 1.0, 300)
    bound = np.array([*table.cost[:-1], 600 * table.cost[-1]])
    policy = policy_for({"max_cost": 1.1 * float(table.cost.sum())})
    policy = replace(policy, cost=policy.cost * factor)
    moved = at_the_policys_cost(replace(table, cost=rows, highest_cost=bound), policy)
    assert moved.cost[:, 1:] == pytest.approx(np.tile(policy.cost[1:], (300, 1)))
    assert (moved.highest_cost >= bound).all()
    (judged,) = judge(replace(table, cost=rows, highest_cost=bound), policy).targets
    assert judged.verdict != "holds"


@pytest.mark.parametrize(("target", "estimate"), [({"max_accuracy_drop": 0.0}, 0.0), ({"target_agreement": 1.0}, 1.0)])
def test_targets_that_hold_by_construction_need_no_rows(target, estimate):
    (judged,) = judge(draw(np.random.default_rng(7), 3), policy_for(target, (NEVER, NEVER))).targets
    assert (judged.verdict, judged.test, judged.interval) == ("holds", "by construction", (estimate, estimate))


def test_rows_of_the_calibration_give_no_verdict():
    table = draw(np.random.default_rng(8), 2000)
    policy = calibrate(table, max_accuracy_drop=0.05, max_cost=25.0)
    assert {each.verdict for each in judge(table, policy).targets} == {"seen rows"}
    assert "seen rows" not in {each.verdict for each in judge(table.take(np.arange(1999)), policy).targets}


def test_without_a_guarantee_nothing_can_be_violated():
    table = draw(np.random.default_rng(9), 500)
    for policy in (policy_for({"target_accuracy": 1.0}, guarantee="none"), Policy.from_thresholds(NAMES, np.ones(2))):
        judgement = judge(table, policy)
        assert judgement.guarantee.startswith("nothing was guaranteed")
        assert (judgement.certified, judgement.delta, judgement.violated) == (False, None, ())
    certified = judge(table, policy_for({"target_accuracy": 1.0}))
    assert (certified.violated, certified.delta) == (certified.targets, 0.05)
    assert certified.guarantee == "guaranteed on future data with probability 0.95"


def test_targets_that_need_labels_or_answers_are_named_where_there_are_none():
    table = draw(np.random.default_rng(10), 100)
    both = policy_for({"max_accuracy_drop": 0.1, "max_cost": 30.0})
    judgement = judge(replace(table, label=None), both)
    assert judgement.not_judged == ("max_accuracy_drop: the rows have no labels",)
    assert [each.target for each in judgement.targets] == ["max_cost"]
    abstains_on_all = policy_for({"target_accuracy": 0.9, "max_abstain": 0.1}, (NEVER, NEVER), abstain_below=NEVER)
    assert judge(table, abstains_on_all).not_judged == ("target_accuracy: the policy abstains on all of the rows",)


def test_few_rows_decide_nothing():
    (judged,) = judge(draw(np.random.default_rng(11), 2), policy_for({"max_accuracy_drop": 0.5})).targets
    assert judged.verdict == "too few rows"
    assert judged.words == "cannot be decided: 2 rows are too few to refute it"


def test_a_calibrated_policy_is_seldom_found_violated_and_harder_rows_are():
    rng = np.random.default_rng(12)
    found = []
    while len(found) < 20:
        try:
            policy = calibrate(draw(rng, 400), target_accuracy=0.85, delta=0.1)
        except InfeasibleTarget:
            continue
        found.append(bool(judge(draw(rng, 400), policy).violated))
        assert judge(draw(rng, 2000, harder=1.5), policy).violated
    assert sum(found) <= 2


@pytest.mark.parametrize("target", [{"speed": 1.0}, {}, {"max_cost": "x"}, {"target_accuracy": 2.0}, [0.9]])
def test_a_certificate_whose_targets_make_no_sense_is_refused(target):
    with pytest.raises(PolicyError, match="certificate's"):
        judge(draw(np.random.default_rng(13), 10), policy_for(target))


def test_a_level_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\); got 1.5"):
        judge(draw(np.random.default_rng(14), 10), policy_for({"max_cost": 9.0}), 1.5)


def test_a_judgement_survives_pickling_and_is_json():
    judgement = judge(draw(np.random.default_rng(15), 50), policy_for({"max_accuracy_drop": 0.1}))
    assert pickle.loads(pickle.dumps(judgement)) == judgement
    assert json.loads(json.dumps(judgement.to_dict(), allow_nan=False))["targets"][0]["target"] == "max_accuracy_drop"
