"""Reference and monitor: counts by plain loops, round trips, false alarms in all, and every kind of drift."""

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from cascade.calibration import Policy, ScoreTable, calibrate
from cascade.calibration.monitoring.monitor import Monitor
from cascade.calibration.policies.reference import Reference
from cascade.errors import PolicyError

STAGES = ("a", "b", "c")


def population(rows, seed=0, skill=1.0):
    """A score table of three stages, its last one nearly always right."""
    rng = np.random.default_rng(seed)
    ease = skill * (np.array([1.0, 2.0, 4.0]) - rng.normal(size=(rows, 1)) + 0.3 * rng.normal(size=(rows, 3)))
    right = rng.random((rows, 3)) < 1 / (1 + np.exp(-2 * ease))
    prediction = np.where(right, 0, rng.integers(1, 4, (rows, 3)))
    confidence = 1 / (1 + np.exp(-2 * ease))
    return ScoreTable(prediction, confidence, np.array([0.2, 5.0, 30.0]), np.array(STAGES), label=np.zeros(rows, int))


def routed(table, policy):
    """(stage, agrees, word before the last stage) of each row, by a loop over rows."""
    found = []
    for said, sure in zip(table.prediction, table.confidence, strict=True):
        word, k = None, 0
        while k < 2 and sure[k] < policy.thresholds[k]:
            word = said[k]
            k = 2 if sure[k] < policy.defer_below[k] else k + 1
        found.append((k, said[k] == said[2], word == said[2]))
    return [np.array(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("defer_below", [[0, 0], [0.6, 0]])
def test_the_reference_has_the_counts_of_a_plain_loop(defer_below):
    table = population(500)
    policy = Policy.from_thresholds(STAGES, np.array([0.9, 0.95]))
    policy = Policy(STAGES, policy.routers, policy.thresholds, defer_below=np.array(defer_below))
    seen = Reference.of(table, policy.routers, policy.thresholds, policy.defer_below)
    stage, agrees, repeats = routed(table, policy)
    assert seen.rows == 500
    assert seen.stage_rows == tuple(np.bincount(stage, minlength=3))
    assert seen.agreed_rows == agrees.sum()
    assert seen.repeated_rows[1] == repeats[stage == 2].sum()
    assert seen.repeated_rows[0] == ((table.prediction[:, 0] == table.prediction[:, 2]) & (stage == 2)).sum()
    assert TypeAdapter(Reference).validate_python(json.loads(json.dumps(seen.to_dict()))) == seen


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 11},
        {"agreed_rows": 11},
        {"stage_rows": [10]},
        {"repeated_rows": [7, 0]},
        {"log_choices": -1},
        {"rows": "many"},
        {"stage_rows": "abc"},
        {"stage_rows": [True, 3, 6]},
        {"more": 1},
    ],
)
def test_a_reference_that_does_not_add_up_is_refused(change):
    values = {"rows": 10, "stage_rows": [1, 3, 6], "agreed_rows": 9, "repeated_rows": [4, 5], "log_choices": 0.0}
    policy = Policy.from_thresholds(STAGES, np.array([0.9, 0.95])).to_dict()
    good = Policy.from_dict(policy | {"certificate": {"reference": values}})
    assert good.reference == Reference(10, (1, 3, 6), 9, (4, 5))
    with pytest.raises(PolicyError, match=r"certificate\.reference"):
        Policy.from_dict(policy | {"certificate": {"reference": values | change}})


@pytest.mark.parametrize("guarantee", ["certified", "none"])
def test_calibrate_writes_the_reference(guarantee):
    table = population(2000)
    policy = calibrate(table, max_accuracy_drop=0.03, guarantee=guarantee)
    assert Policy.from_json(policy.to_json()).reference == policy.reference
    assert policy.reference.rows == (1700 if guarantee == "certified" else 2000)
    assert 0 < policy.reference.log_choices < 20
    assert policy.guaranteed_agreement is None
    least = policy.reference.least_agreement(0.01)
    assert 0.9 * policy.certificate["observed"]["agreement"] < least < policy.certificate["observed"]["agreement"]


def test_more_choices_and_less_risk_make_wider_intervals():
    def width(risk, log_choices):
        low, high = Reference(1000, (700, 200, 100), 980, (50, 60), log_choices).forward_rate(0, risk)
        assert low < 0.3 < high
        return high - low

    assert width(0.05, 0) < width(0.01, 0) < width(0.01, 5.3) < width(0.01, 2000) < 1


def watch(policy, table, rng, rows, monitor=None, share=0.05, border=3, **options):
    """Lets a monitor see random rows of a table, 100 at a time, until an alarm or the end; returns it and the rows."""
    monitor = monitor or Monitor(policy, 0.1, first_behind=border, **options)
    stage, agrees, repeats = routed(table, policy)
    if border == 1:
        repeats = table.prediction[:, 0] == table.prediction[:, 2]
    for seen in range(0, rows, 100):
        chosen = rng.integers(0, len(table), 100)
        counts = np.bincount(stage[chosen], minlength=3)
        before = np.where(np.arange(3) < border, counts, 0)
        monitor.add_decided(before, int(counts[border:].sum()))
        if border < 3:
            behind = np.where(np.arange(3) < border, 0, counts)
            monitor.add_returned(behind, int((repeats[chosen] & (stage[chosen] == 2)).sum()))
        sampled = chosen[rng.random(100) < share]
        if len(sampled):
            monitor.add_audited(stage[sampled], agrees[sampled])
        if monitor.alarms:
            return monitor, seen + 100
    return monitor, rows


@pytest.fixture(scope="module")
def policy():
    return calibrate(population(6000, seed=1), max_accuracy_drop=0.03)


@pytest.mark.parametrize("border", [1, 2, 3])
def test_no_alarm_and_a_true_estimate_where_nothing_drifts(policy, border):
    table = population(50_000, seed=2)
    monitor, _ = watch(policy, table, np.random.default_rng(0), 20_000, border=border)
    seen = monitor.to_dict()
    stage, agrees, _ = routed(table, policy)
    assert not seen["alarm"]
    assert [each["name"] for each in seen["watched"]] == ["agreement"] + ["forward_rate"] * 2 + ["repeat_rate"] * (
        border < 3
    )
    for each in seen["watched"]:
        assert each["low"] <= each["rate"] <= each["high"]
    assert seen["agreement"]["low"] < agrees.mean() < seen["agreement"]["high"]
    assert seen["accepted_agreement"]["low"] < agrees[stage < 2].mean() < seen["accepted_agreement"]["high"]
    assert sum(seen["answered_rows"].values()) == 20_000
    rates = [each["rate"] for each in seen["watched"] if each["name"] == "forward_rate"]
    assert rates == pytest.approx([(stage > 0).mean(), (stage[stage > 0] > 1).mean()], abs=0.03)


@pytest.mark.parametrize("border", [1, 2, 3])
def test_drift_is_noticed(policy, border):
    monitor, rows = watch(
        policy, population(50_000, seed=3, skill=0.5), np.random.default_rng(0), 20_000, border=border
    )
    assert rows < 3000
    assert {each.name for each in monitor.alarms} <= {"forward_rate", "agreement", "repeat_rate"}


def test_answers_that_change_where_confidences_do_not_are_noticed_by_the_audit(policy):
    table = population(50_000, seed=4)
    changed = table.prediction.copy()
    changed[: len(table) // 3, :2] = 9
    broken = ScoreTable(changed, table.confidence, table.cost, table.stage, label=table.label)
    monitor, rows = watch(policy, broken, np.random.default_rng(0), 20_000)
    assert [each.name for each in monitor.alarms] == ["agreement"]
    assert rows < 6000


def test_false_alarms_in_all_over_calibration_and_traffic():
    runs, delta, alarms = 40, 0.1, 0
    everything = population(100_000, seed=5)
    rng = np.random.default_rng(6)
    for run in range(runs):
        table = everything.take(rng.integers(0, len(everything), 1000))
        policy = calibrate(table, max_accuracy_drop=0.1, seed=run)
        stage, agrees, _ = routed(everything.take(rng.integers(0, len(everything), 10_000)), policy)
        monitor = Monitor(policy, delta)
        for part in np.split(np.arange(10_000), 50):
            monitor.add_decided(np.bincount(stage[part], minlength=3), 0)
            monitor.add_audited(stage[part[:20]], agrees[part[:20]])
        alarms += bool(monitor.alarms)
    assert alarms / runs <= delta + 3 * np.sqrt(delta * (1 - delta) / runs)


def test_the_least_agreement_is_that_of_the_operator_or_of_the_guarantee():
    guaranteed = calibrate(population(6000, seed=1), target_agreement=0.9)
    plain = Policy.from_thresholds(STAGES, np.array([0.9, 0.95]))
    assert guaranteed.guaranteed_agreement == 0.9
    assert Monitor(guaranteed, 0.1).agreement.source == "guarantee"
    assert Monitor(guaranteed, 0.1).agreement.test.low == 0.9
    assert Monitor(guaranteed, 0.1, least_agreement=0.8).agreement.test.low == 0.8
    assert Monitor(plain, 0.1).watched == []
    (only,) = Monitor(plain, 0.1, least_agreement=0.8).watched
    assert (only.source, only.test.low, only.test.delta) == ("operator", 0.8, 0.1)
    assert not Monitor(plain, 0.1).to_dict()["alarm"]


def test_all_risks_add_up_to_delta(policy):
    for border, share in ((1, 1.0), (3, 0.25)):
        monitor = Monitor(policy, 0.1, share=share, first_behind=border)
        bets = sum(each.test.delta for each in monitor.watched)
        assert bets == pytest.approx(share * 0.05)  # the other half is the risk of the bounds


def test_a_tolerance_widens_the_rates_only(policy):
    strict, wide = Monitor(policy, 0.1), Monitor(policy, 0.1, rate_tolerance=0.05)
    assert wide.agreement.test.low == strict.agreement.test.low
    for one, other in zip(strict.rates, wide.rates, strict=True):
        assert (other.test.low, other.test.high) == pytest.approx((one.test.low - 0.05, one.test.high + 0.05))


def test_a_single_stage_has_nothing_to_drift():
    policy = Policy.from_thresholds(("only",), np.zeros(0))
    monitor = Monitor(policy, 0.1)
    monitor.add_decided(np.array([5]), 0)
    monitor.add_audited(np.zeros(3, int), np.ones(3, bool))
    assert monitor.to_dict()["agreement"]["rate"] == 1
    assert monitor.to_dict()["accepted_agreement"]["rate"] is None
