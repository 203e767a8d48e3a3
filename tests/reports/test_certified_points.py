"""Certified points: their guarantees, and what they reach on other rows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import Policy, ScoreTable, calibrate, evaluate
from cascade.errors import PolicyError
from cascade.reports import Replay, certified_frontier, report_page
from cascade.reports.measures.certified_points import ladder


@pytest.mark.parametrize(
    "target", [{"target_accuracy": 0.8}, {"max_accuracy_drop": 0.1}, {"target_agreement": 0.8}, {"max_cost": 5.0}]
)
def test_each_point_is_what_calibrate_certifies(make_table, target):
    calibration, table = make_table(2000, 2, seed=1), make_table(1000, 2, seed=2)
    policy = calibrate(calibration, **target)
    ((name, _),) = target.items()
    found = certified_frontier(calibration, policy, table, delta=0.1)
    assert (found.target_name, found.delta, found.rows) == (name, 0.1, 2000)
    assert len(found.points) >= 3
    assert [point.cost for point in found.points] == sorted(point.cost for point in found.points)
    for point in found.points[:2]:
        again = calibrate(calibration, **{name: point.target}, delta=0.1)
        np.testing.assert_array_equal(again.thresholds, point.thresholds)
        replay = Replay.of(table, again)
        assert (point.gain, point.cost) == pytest.approx((replay.chosen_gain, replay.evaluation.mean_cost))
        np.testing.assert_allclose(point.share, replay.evaluation.stage_share)


@pytest.mark.parametrize("rows", [150, 400, 2000])
@pytest.mark.parametrize(
    "target", [{"target_accuracy": 0.6}, {"max_accuracy_drop": 0.1}, {"target_agreement": 0.6}, {"max_cost": 9.0}]
)
def test_the_points_differ_and_a_harder_target_costs_more(make_table, rows, target):
    calibration, table = make_table(rows, 3, seed=1), make_table(1000, 3, seed=2)
    found = certified_frontier(calibration, calibrate(calibration, **target), table)
    rising = [point.target if found.target_name != "max_accuracy_drop" else -point.target for point in found.points]
    cost, gain = [point.cost for point in found.points], [point.gain for point in found.points]
    assert rising == sorted(set(rising))
    assert cost == sorted(set(cost))
    assert found.target_name != "max_cost" or gain == sorted(set(gain))
    assert len({point.thresholds.tobytes() for point in found.points}) == len(found.points) >= 3


def test_what_holds_by_construction_takes_one_point_and_the_ladder_begins_at_what_takes_a_test(make_table):
    calibration, table = make_table(300, 3, seed=1), make_table(1000, 3, seed=2)
    policy = calibrate(calibration, max_accuracy_drop=0.1)
    nearest = calibrate(calibration, max_accuracy_drop=0.0).certificate["nearest_tested"]
    last, *others = reversed(certified_frontier(calibration, policy, table).points)
    assert (last.target, last.share[-1]) == (0.0, 1.0)
    assert nearest <= others[0].target <= nearest + 1e-4
    assert all(point.share[-1] < 1 for point in others)


def test_few_rows_certify_little_and_one_row_nothing(make_table):
    table = make_table(50, 2)
    policy = calibrate(table, target_accuracy=0.5)
    one = certified_frontier(make_table(1, 2), policy, table)
    assert (one.points, one.delta) == ((), 0.05)
    page = report_page(Replay.of(table, policy), certified=one)
    assert "calibration table at delta = 0.05" in page


def test_a_certificate_of_anyone_is_read_with_care(make_table):
    table = make_table(300, 2, labels=False)
    policy = calibrate(table, target_agreement=0.5)
    odd = dataclasses.replace(policy, certificate={"target": {"x": 1}, "delta": "no", "seed": -1})
    assert certified_frontier(table, odd, table).target_name == "target_agreement"
    with pytest.raises(ValueError, match="delta must be in"):
        certified_frontier(table, odd, table, delta=1.0)
    with pytest.raises(PolicyError, match="policy is for stages"):
        certified_frontier(make_table(300, 3), odd, table)


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["target_accuracy", "max_accuracy_drop", "max_cost"]))
def test_a_ladder_never_asks_for_more_than_its_hardest(hardest, easiest, name):
    steps = ladder(name, hardest, easiest)
    assert 1 <= len(steps) <= 8
    assert len(set(steps)) == len(steps)
    assert steps == sorted(steps, reverse=name == "target_accuracy")
    assert steps[0] <= hardest + 1e-12 if name == "target_accuracy" else steps[0] >= hardest - 1e-12


def test_heads_are_fitted_again_as_recorded_in_the_certificate(make_table):
    calibration, table = make_table(1500, 3, seed=1, classes=3), make_table(500, 3, seed=2, classes=3)
    routers = [("margin", "platt"), ("deferral", "identity"), ("margin", "identity")]
    policy = calibrate(calibration, max_accuracy_drop=0.1, routers=routers)
    found = certified_frontier(calibration, Policy.from_json(policy.to_json()), table)
    assert len(found.points) >= 2
    again = calibrate(calibration, max_accuracy_drop=found.points[0].target, routers=routers)
    np.testing.assert_array_equal(again.thresholds, found.points[0].thresholds)
    assert found.points[0].cost == pytest.approx(evaluate(table, again).mean_cost)


@pytest.mark.parametrize("routers", [None, "x", [["deferral", "identity"]], [["deferral", "identity"], [[], {}]]])
def test_heads_that_the_certificate_does_not_record_are_refused(make_table, routers):
    table = make_table(300, 2, classes=3)
    policy = calibrate(table, max_cost=5.0, routers=[("deferral", "identity")] * 2)
    silent = dataclasses.replace(policy, certificate={**policy.certificate, "routers": routers})
    with pytest.raises(PolicyError, match="how the heads"):
        certified_frontier(table, silent, table)


def screened(seed, rows=6000, share=0.05):
    """Two stages that reject as class 0, and a last one that answers both classes."""
    random = np.random.default_rng(seed)
    label = (random.random(rows) < share).astype(np.int64)
    scores = (2 * label - 1)[:, None] * np.array([1.2, 1.6, 2.0]) + random.normal(size=(rows, 3))
    prediction = np.zeros((rows, 3), dtype=np.int64)
    prediction[:, -1] = scores[:, -1] > -0.5
    names = np.array(["cheap", "middle", "last"])
    return ScoreTable(prediction, 1 / (1 + np.exp(scores)), np.array([1.0, 5.0, 20.0]), names, label=label)


@pytest.mark.parametrize("precision", [{}, {"min_precision": 0.3}])
def test_a_policy_with_a_target_of_recall_is_compared_by_recall(precision):
    calibration, table = screened(1), screened(2)
    policy = calibrate(calibration, min_recall=0.8, positive=1, **precision)
    found = certified_frontier(calibration, policy, table)
    assert (found.target_name, found.min_precision) == ("min_recall", precision.get("min_precision"))
    assert len(found.points) >= 3
    assert min(point.target for point in found.points) > 0
    for point in found.points[-2:]:
        again = calibrate(calibration, min_recall=point.target, positive=1, **precision)
        np.testing.assert_array_equal(again.thresholds, point.thresholds)
        seen = evaluate(table, again)
        assert (point.gain, point.cost) == pytest.approx((seen.detection.recall, seen.mean_cost))
    replay = Replay.of(table, policy)
    assert replay.sought == pytest.approx(replay.evaluation.detection.recall)
    assert replay.single_sought == pytest.approx([0, 0, table.prediction[table.label == 1, -1].mean()])
    for point in replay.frontier[:: max(1, len(replay.frontier) // 5)]:
        seen = evaluate(table, dataclasses.replace(policy, thresholds=point.thresholds)).detection
        assert point.gain == pytest.approx(seen.recall)
    page = report_page(replay, certified=found)
    assert "<h2>Recall and cost</h2>" in page
    assert "certified recall at least" in page
    assert "With at least the policy&#39;s recall" in page
    assert ("with a precision of 0.3" in page) == bool(precision)


def test_without_positive_rows_or_labels_a_recall_is_not_drawn():
    table = screened(1)
    policy = calibrate(table, min_recall=0.8, positive=1)
    for other, name in (
        (table.take(table.label == 0), "accuracy"),
        (dataclasses.replace(table, label=None), "agreement"),
    ):
        replay = Replay.of(other, policy)
        assert replay.sought_name == name
        assert f"<h2>{name.capitalize()} and cost</h2>" in report_page(replay)
