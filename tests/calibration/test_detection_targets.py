"""Targets of recall and precision: what is tested, on which rows, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from cascade.calibration import Policy, ScoreTable, calibrate, calibrate_gears, evaluate, judge
from cascade.calibration.calibrators import Identity
from cascade.calibration.certificates.certification import split_strata
from cascade.calibration.certificates.guarantees import PrecisionGuarantee, RecallGuarantee
from cascade.calibration.certificates.more_rows import least_positives
from cascade.calibration.detection import positive_class
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.product_rule import product_rule_thresholds
from cascade.errors import InfeasibleTarget, ScoreTableError
from cascade.routers import NEVER, Router, answering_stage


def drawn(rows=6000, share=0.05, seed=0, stages=2):
    """Stages that reject as class 0, and a last one that answers both classes."""
    random = np.random.default_rng(seed)
    label = (random.random(rows) < share).astype(np.int64)
    scores = (2 * label - 1)[:, None] * np.linspace(1.2, 2.0, stages) + random.normal(size=(rows, stages))
    prediction = np.zeros((rows, stages), dtype=np.int64)
    prediction[:, -1] = scores[:, -1] > -0.5
    return ScoreTable(
        prediction,
        1 / (1 + np.exp(scores)),
        np.geomspace(1, 20, stages),
        np.array([f"s{k}" for k in range(stages)]),
        label=label,
        classes=np.array(["no", "yes"]),
    )


TABLE = drawn()


def problem_of(table):
    return RoutingProblem.from_table(table, (Router(None, Identity()),) * table.stages, False, positive=1)


def by_hand(table, policy):
    """Answer of each row, by a loop."""
    answers = []
    for prediction, confidence in zip(table.prediction, table.confidence, strict=True):
        stage = next((k for k, t in enumerate(policy.thresholds) if confidence[k] >= t), table.stages - 1)
        answers.append(prediction[stage])
    return np.array(answers)


@pytest.mark.parametrize("stages", [2, 3])
def test_a_certified_recall_is_tested_on_the_positive_rows_alone(stages):
    table = drawn(stages=stages)
    policy = calibrate(table, min_recall=0.9)
    certificate, (test,) = policy.certificate, policy.certificate["tests"]
    positives = int(table.label.sum())
    assert certificate["target"] == {"min_recall": 0.9}
    assert (certificate["positive"], certificate["positive_name"], certificate["positives"]) == (1, "yes", positives)
    assert certificate["rows"] == len(table)
    assert test["rows"] == positives - round(0.15 * positives)
    assert certificate["testing_rows"] == test["rows"] + len(table) - positives - round(0.15 * (len(table) - positives))
    detected = round(test["observed"] * test["rows"])
    assert test["p_value"] == pytest.approx(binom.sf(detected - 1, test["rows"], 0.9))
    assert test["bound"] >= 0.9
    assert evaluate(table, policy).mean_cost < evaluate(table, policy).last_stage_cost
    assert policy.guarantees == {"min_recall": 0.9}
    assert Policy.from_json(policy.to_json()) == policy


def test_recall_precision_and_rates_of_stages_are_those_of_a_loop():
    policy = calibrate(TABLE, min_recall=0.9)
    seen, answer = evaluate(TABLE, policy).detection, by_hand(TABLE, policy)
    positive = TABLE.label == 1
    assert seen.recall == (answer[positive] == 1).mean()
    assert seen.precision == positive[answer == 1].mean()
    assert seen.false_positive_rate == (answer[~positive] == 1).mean()
    assert (seen.positives, seen.answered_positive) == (positive.sum(), (answer == 1).sum())
    deferred = TABLE.confidence[:, 0] < policy.thresholds[0]
    assert seen.stage_detection_rate[0] == deferred[positive].mean()
    assert seen.stage_false_positive_rate[0] == deferred[~positive].mean()
    # Stages that only reject: the classical product is exact on the same rows.
    assert seen.product_detection_rate == pytest.approx(seen.recall)
    assert seen.product_false_positive_rate == pytest.approx(seen.false_positive_rate)
    json.dumps(evaluate(TABLE, policy).to_dict(), allow_nan=False)


def test_recall_beside_a_budget_tests_costs_over_all_rows():
    policy = calibrate(TABLE, min_recall=0.9, max_cost=18.0)
    recall, cost = policy.certificate["tests"]
    assert (recall["target"], cost["target"]) == ("min_recall", "max_cost")
    assert recall["rows"] < cost["rows"] == policy.certificate["testing_rows"]
    with pytest.raises(InfeasibleTarget, match=r"recall 0\.9 at a mean cost of at most 1\.5 ms; the nearest budget"):
        calibrate(TABLE, min_recall=0.9, max_cost=1.5)


@pytest.mark.parametrize("guarantee", ["certified", "none"])
def test_recall_beside_a_precision(guarantee):
    policy = calibrate(TABLE, min_recall=0.8, min_precision=0.3, guarantee=guarantee)
    seen = evaluate(TABLE, policy).detection
    assert seen.recall >= 0.8
    assert seen.precision >= 0.3
    assert policy.certificate["target"] == {"min_recall": 0.8, "min_precision": 0.3}
    if guarantee == "certified":
        recall, precision = policy.certificate["tests"]
        assert (recall["target"], precision["target"]) == ("min_recall", "min_precision")
        assert round(precision["observed"] * precision["rows"]) == round(recall["observed"] * recall["rows"])
    with pytest.raises(InfeasibleTarget, match="precision"):
        calibrate(TABLE, min_recall=0.8, min_precision=0.99, guarantee=guarantee)


def test_the_search_without_a_guarantee_is_that_of_all_thresholds():
    policy = calibrate(TABLE, min_recall=0.93, guarantee="none")
    problem = problem_of(TABLE)
    share = TABLE.label.mean()
    costs = [
        cost
        for threshold in [*np.unique(TABLE.confidence[:, 0]), NEVER]
        for gain, cost in [problem.value(np.array([threshold]))]
        if gain / share >= 0.93 - 1e-9
    ]
    assert evaluate(TABLE, policy).mean_cost == pytest.approx(min(costs))


@settings(max_examples=30, deadline=None)
@given(positives=st.integers(2, 60), negatives=st.integers(0, 200), seed=st.integers(0, 5))
def test_a_split_by_labels_leaves_positive_rows_in_both_parts(positives, negatives, seed):
    strata = np.random.default_rng(seed).permutation(np.arange(positives + negatives) < positives)
    search, test = split_strata(strata, seed)
    assert sorted([*search, *test]) == list(range(len(strata)))
    assert strata[search].any()
    assert strata[test].any()


def test_guarantees_cover_positive_rows_or_rows_answered_as_positive():
    problem = problem_of(TABLE)
    stage = answering_stage(problem.confidence, np.array([0.5]))
    answer = TABLE.prediction[np.arange(len(TABLE)), stage]
    np.testing.assert_array_equal(RecallGuarantee(0.5).outcome(problem, stage), answer[TABLE.label == 1])
    np.testing.assert_array_equal(PrecisionGuarantee(0.5).outcome(problem, stage), TABLE.label[answer == 1])


def test_early_deferral_changes_which_rows_are_answered_as_positive():
    table = drawn(stages=3)
    problem = problem_of(table)
    defer_below = np.array([0.2, 0.0])
    moved = problem.deferring_early(defer_below)
    early = table.confidence[:, 0] < 0.2
    np.testing.assert_array_equal(moved.detection.answered[early, 1], table.prediction[early, 2] == 1)
    np.testing.assert_array_equal(moved.detection.answered[~early], problem.detection.answered[~early])
    np.testing.assert_array_equal(moved.gain, moved.detection.gain)


@pytest.mark.parametrize(("recall", "delta", "least"), [(0.95, 0.05, 59), (0.98, 0.05, 149), (0.5, 0.25, 2)])
def test_the_least_number_of_positive_rows(recall, delta, least):
    assert least_positives(recall, delta) == least
    assert recall**least <= delta + 1e-12 < recall ** (least - 1)
    assert least_positives(1.0, delta) == np.inf
    assert least_positives(0.0, delta) == 1


def with_positives(count):
    positive = np.flatnonzero(TABLE.label == 1)[:count]
    return TABLE.take(np.concatenate([positive, np.flatnonzero(TABLE.label == 0)[:2000]]))


@pytest.mark.parametrize("guarantee", ["certified", "none"])
def test_a_table_without_positive_rows_is_refused(guarantee):
    with pytest.raises(InfeasibleTarget, match="none of the 2,000 rows is labelled with the positive class 'yes'"):
        calibrate(with_positives(0), min_recall=0.5, guarantee=guarantee)


def test_one_positive_row_cannot_be_split():
    with pytest.raises(InfeasibleTarget, match="one of the 2,001 rows is labelled with the positive class 'yes'"):
        calibrate(with_positives(1), min_recall=0.5)


@pytest.mark.parametrize("count", [2, 10, 30])
def test_too_few_positive_rows_are_refused_with_their_number_and_the_nearest_recall(count):
    table = with_positives(count)
    with pytest.raises(InfeasibleTarget, match="it takes at least 149 positive testing rows") as caught:
        calibrate(table, min_recall=0.98)
    assert f"there are {count}, " in str(caught.value)
    nearest = float(f"{caught.value.nearest:.6g}")
    assert nearest < 0.98
    assert f"the nearest that can be is {caught.value.nearest:.6g}" in str(caught.value)
    assert calibrate(table, min_recall=nearest).guarantees == {"min_recall": nearest}


def test_a_recall_that_rows_contradict_is_refused_with_what_it_would_take():
    with pytest.raises(InfeasibleTarget) as caught:
        calibrate(TABLE, min_recall=0.995)
    assert calibrate(TABLE, min_recall=caught.value.nearest).guarantees["min_recall"] < 0.995
    assert "(the last stage alone detects 0.9" in str(caught.value)
    assert "more rows" in str(caught.value) or "positive testing rows" in str(caught.value)
    with pytest.raises(InfeasibleTarget, match="no number of rows certifies a recall of 1"):
        calibrate(TABLE, min_recall=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_recall": 0.9, "target_accuracy": 0.9}, "give one of"),
        ({"min_recall": 0.9, "max_abstain": 0.1}, "a positive row without an answer is not detected"),
        ({"min_precision": 0.9}, "min_precision goes with min_recall"),
        ({"min_recall": 0.9, "min_precision": 0.5, "max_cost": 9.0}, "with max_cost or with min_precision"),
        ({"min_recall": 0.9, "min_precision": 0.5, "early_deferral": True}, "early_deferral and min_precision"),
        ({"min_recall": 0.9, "min_precision": 1.5}, r"min_precision must be in \[0, 1\]"),
        ({"min_recall": 1.5}, r"min_recall must be in \[0, 1\]"),
        ({"min_recall": "all"}, "min_recall must be a number"),
        ({"min_recall": 0.9, "positive": "maybe"}, r"positive must be one of the classes \['no', 'yes'\]; got 'maybe'"),
        ({"min_recall": 0.9, "positive": 2}, "positive must be one of the classes"),
        ({"target_accuracy": 0.9, "positive": "yes"}, "positive goes with min_recall"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate(TABLE, **arguments)


def test_a_table_without_labels_is_refused():
    with pytest.raises(ScoreTableError, match="no labels"):
        calibrate(replace(TABLE, label=None), min_recall=0.9)


def test_the_positive_class_by_name_by_number_or_by_what_stages_reject():
    assert positive_class(TABLE, None) == positive_class(TABLE, "yes") == positive_class(TABLE, 1) == 1
    assert positive_class(TABLE, "no") == 0
    unnamed = replace(TABLE, classes=None)
    assert positive_class(unnamed, None) == positive_class(unnamed, "1") == 1
    with pytest.raises(ValueError, match="a class from 0 to 1; got 'yes'"):
        positive_class(unnamed, "yes")
    ordinary = replace(TABLE, prediction=np.repeat(TABLE.prediction[:, -1:], 2, axis=1))
    with pytest.raises(ValueError, match="positive must be given"):
        calibrate(ordinary, min_recall=0.9)


def test_fresh_rows_judge_the_recall_on_their_positive_rows():
    policy = calibrate(TABLE, min_recall=0.9)
    fresh = drawn(seed=1)
    (judged,) = judge(fresh, policy).targets
    assert judged.claim == "recall at least 0.9"
    assert judged.rows == fresh.label.sum()
    assert judged.verdict in ("holds", "not refuted")
    worse = replace(fresh, confidence=np.clip(fresh.confidence + 0.6 * (fresh.label[:, None] == 1), 0, 1))
    assert judge(worse, policy).violated
    negative = fresh.take(fresh.label == 0)
    assert judge(negative, policy).not_judged == ("min_recall: none of the rows is labelled as positive",)
    assert judge(replace(fresh, label=None), policy).not_judged == ("min_recall: the rows have no labels",)


def test_gears_of_recall_go_from_the_highest_to_the_lowest():
    gears = calibrate_gears(TABLE, [{"min_recall": 0.93}, {"min_recall": 0.8}]).gears
    assert [gear.guarantees["min_recall"] for gear in gears] == [0.93, 0.8]
    assert gears[1].observed_cost < gears[0].observed_cost


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_product_rule_shares_the_recall_between_the_stages(stages):
    table = drawn(rows=20000, stages=stages)
    problem = problem_of(table)
    thresholds = product_rule_thresholds(problem, 0.9)
    reaching = table.label == 1
    each = (0.9 / problem.gain[reaching, -1].mean()) ** (1 / (stages - 1))
    for k, threshold in enumerate(thresholds):
        passed = reaching & (table.confidence[:, k] < threshold)
        assert passed.sum() / reaching.sum() >= each - 1e-12
        assert (passed.sum() - 1) / reaching.sum() < each
        reaching = passed
    ours = calibrate(table, min_recall=0.9, guarantee="none")
    recall, cost = problem.value(thresholds)
    assert recall / table.label.mean() == pytest.approx(0.9, abs=0.02)
    assert evaluate(table, ours).mean_cost <= cost * 1.05


def test_a_budget_or_an_accuracy_has_no_positive_class():
    assert evaluate(TABLE, calibrate(TABLE, target_accuracy=0.9)).detection is None
