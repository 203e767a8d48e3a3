"""Fresh rows against a certificate: no alarm without a reason, an alarm with one, and silence on few rows."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_table import draw
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from cascade.calibration import InfeasibleTarget, Policy, calibrate
from cascade.calibration.evaluation.fresh_check import _fisher, check_fresh
from cascade.errors import PolicyError
from cascade.routers import NEVER

DELTA = 0.1


ABSTAINING = {"target_accuracy": 0.95, "max_abstain": 0.15}
TARGETS = [
    {"max_accuracy_drop": 0.05},
    {"target_accuracy": 0.85},
    {"target_agreement": 0.85},
    {"max_cost": 20.0},
    ABSTAINING,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: next(iter(target)))
def test_a_policy_that_still_fits_is_found_broken_with_probability_delta_at_most(target):
    rng = np.random.default_rng(1)
    alarms = samples = 0
    while samples < 50:
        try:
            policy = calibrate(draw(rng, 400), delta=DELTA, **target)
        except InfeasibleTarget:
            continue
        samples += 1
        check = check_fresh(draw(rng, 400), policy)
        assert check.delta == DELTA
        alarms += bool(check.violated)
    assert alarms <= DELTA * samples + 3 * np.sqrt(DELTA * (1 - DELTA) * samples)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: next(iter(target)))
def test_harder_traffic_is_noticed(target):
    rng = np.random.default_rng(2)
    policy = calibrate(draw(rng, 2000), **target)
    check = check_fresh(draw(rng, 2000, harder=1.0), policy)
    broken = [finding.claim for finding in check.violated]
    assert any(claim.startswith("rows forwarded by") for claim in broken)
    assert ("target_accuracy" in broken or "max_abstain" in broken) is ("target_accuracy" in target)
    assert "collect and calibrate again" in check.conclusion


def test_a_policy_that_clearly_satisfies_its_guarantee_holds_and_counts_are_right():
    rng = np.random.default_rng(3)
    policy = calibrate(draw(rng, 2000), target_accuracy=0.7)
    fresh = draw(rng, 3000)
    guarantee, *rates = check_fresh(fresh, policy).findings
    assert (guarantee.claim, guarantee.claimed, guarantee.verdict) == ("target_accuracy", 0.7, "holds")
    check = check_fresh(fresh, policy)
    assert guarantee.observed == check.evaluation.accuracy
    assert rates[0].observed == pytest.approx(1 - check.evaluation.stage_share[0])
    assert rates[1].observed == pytest.approx(check.evaluation.stage_share[2])
    assert [rate.verdict for rate in rates] == ["not refuted"] * 2
    assert check.conclusion == "nothing contradicts the policy"


def test_a_cascade_that_has_nothing_to_do_with_its_last_stage_any_more_is_noticed():
    rng = np.random.default_rng(10)
    policy = calibrate(draw(rng, 2000), max_accuracy_drop=0.01)
    fresh = draw(rng, 200)
    broken = fresh.prediction.copy()
    broken[:, :2] = 7
    sure = np.maximum(fresh.confidence, [1.0, 0.0, 0.0])
    check = check_fresh(replace(fresh, prediction=broken, confidence=sure), policy)
    assert check.violated[0].claim == "max_accuracy_drop"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: next(iter(target)))
def test_a_few_hundred_rows_are_not_too_few(target):
    rng = np.random.default_rng(11)
    check = check_fresh(draw(rng, 200), calibrate(draw(rng, 2000), **target))
    assert "too few rows" not in {finding.verdict for finding in check.findings}


def test_from_few_rows_nothing_is_concluded():
    rng = np.random.default_rng(4)
    policy = calibrate(draw(rng, 2000), max_accuracy_drop=0.03)
    check = check_fresh(draw(rng, 1, harder=9.0), policy)
    assert {finding.verdict for finding in check.findings} == {"too few rows"}
    assert check.conclusion == "nothing can be concluded from so few rows"


def test_of_two_targets_both_are_tested_and_rows_may_skip():
    rng = np.random.default_rng(5)
    policy = calibrate(draw(rng, 3000), max_accuracy_drop=0.05, max_cost=25.0, early_deferral=True)
    check = check_fresh(draw(rng, 2000), policy)
    claims = [finding.claim for finding in check.findings]
    assert claims[:2] == ["max_accuracy_drop", "max_cost"]
    assert check.findings[1].observed == pytest.approx(check.evaluation.mean_cost)


def test_of_a_policy_that_abstains_accuracy_and_abstained_share_are_tested():
    rng = np.random.default_rng(12)
    policy = calibrate(draw(rng, 2000), **ABSTAINING)
    accuracy, abstained, *rates = (check := check_fresh(draw(rng, 4000), policy)).findings
    assert (accuracy.claim, abstained.claim, len(rates)) == (*ABSTAINING, np.count_nonzero(policy.runs[:-1]))
    assert accuracy.observed == check.evaluation.accuracy
    assert 0 < abstained.observed == check.evaluation.abstained
    assert not check.violated
    hopeless = draw(rng, 500, harder=3.0)
    assert "max_abstain" in [finding.claim for finding in check_fresh(hopeless, policy).violated]


def test_without_labels_or_answers_the_abstained_share_is_still_tested():
    rng = np.random.default_rng(13)
    policy = calibrate(draw(rng, 2000), **ABSTAINING)
    fresh = draw(rng, 500)
    unlabelled = check_fresh(replace(fresh, label=None), policy)
    assert unlabelled.untested == ("target_accuracy: the rows have no labels",)
    assert unlabelled.findings[0].claim == "max_abstain"
    never_answers = replace(policy, thresholds=np.full(2, NEVER), abstain_below=NEVER)
    check = check_fresh(fresh, never_answers)
    assert check.untested == ("target_accuracy: the policy abstains on all of the rows",)
    assert (check.findings[0].claim, check.findings[0].verdict) == ("max_abstain", "violated")


def test_the_costs_are_those_of_the_policy_unless_rows_have_their_own():
    rng = np.random.default_rng(6)
    policy = calibrate(draw(rng, 2000), max_cost=25.0)
    fresh = draw(rng, 1000)
    slow_machine = replace(fresh, cost=fresh.cost * 10)
    assert check_fresh(slow_machine, policy).evaluation.mean_cost == check_fresh(fresh, policy).evaluation.mean_cost
    own = np.tile(fresh.cost, (1000, 1))
    own[:, 2] = rng.uniform(200, 300, 1000)
    expensive = check_fresh(replace(fresh, cost=own), policy)
    assert [finding.claim for finding in expensive.violated] == ["max_cost"]


def test_without_labels_or_a_certificate_untested_claims_are_listed():
    rng = np.random.default_rng(7)
    policy = calibrate(draw(rng, 2000), max_accuracy_drop=0.05)
    fresh = replace(draw(rng, 500), label=None)
    check = check_fresh(fresh, policy)
    assert check.untested == ("max_accuracy_drop: the rows have no labels",)
    assert [finding.claim for finding in check.findings] == [
        "rows forwarded by b"
    ]  # a does not pay, so it does not run
    bare = check_fresh(fresh, Policy.from_thresholds(("a", "b", "c"), np.array([0.5, 0.5])))
    assert (bare.findings, len(bare.untested), bare.conclusion) == ((), 2, "nothing could be tested")
    empirical = check_fresh(fresh, calibrate(draw(rng, 500), max_accuracy_drop=0.05, guarantee="none"))
    assert len(empirical.untested) == 1
    assert len(empirical.findings) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"target": {"target_accuracy": "high"}},
        {"target": ["target_accuracy"]},
        {"target": {"loudness": 1}},
        {"delta": 2},
        {"observed": {"stage_share": [1.0]}},
        {"rows": "many"},
    ],
    ids=str,
)
def test_a_certificate_that_makes_no_sense_is_refused(broken):
    policy = calibrate(draw(np.random.default_rng(8), 500), target_accuracy=0.7)
    odd = replace(policy, certificate={**policy.certificate, **broken})
    with pytest.raises(PolicyError):
        check_fresh(draw(np.random.default_rng(9), 50), odd)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_test_of_rates_is_no_sharper_than_twice_the_smaller_tail(rows, other_rows, data):
    count, other = data.draw(st.integers(0, rows)), data.draw(st.integers(0, other_rows))
    table = [[count, rows - count], [other, other_rows - other]]
    tails = [fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    assert _fisher(count, rows, other, other_rows) == pytest.approx(min(1.0, 2 * min(tails)))
