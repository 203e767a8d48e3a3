"""Evaluation against a plain loop, its intervals against SciPy."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from cascade.calibration import Identity, Platt, Policy, ScoreTable, Temperature, evaluate
from cascade.calibration.evaluation.evaluation import proportion_interval
from cascade.calibration.routing_problem import RoutingProblem
from cascade.errors import PolicyError, ScoreTableError
from cascade.routers import NEVER, Router


def by_hand(table, confidence, thresholds, defer_below):
    """Stage, cost, rightness and agreement of each row, one after the other."""
    rows = []
    for i in range(len(table)):
        cost, k, last = 0.0, 0, table.stages - 1
        while True:
            if k == last or thresholds[k] <= 1 or defer_below[k] > 0:  # else it does not run
                cost += float(table.cost[k] if table.cost.ndim == 1 else table.cost[i, k])
            if k == last or confidence[i, k] >= thresholds[k]:
                break
            k = last if confidence[i, k] < defer_below[k] else k + 1
        answer = int(table.prediction[i, k])
        right = None if table.label is None else answer == table.label[i]
        rows.append((k, cost, right, answer == table.prediction[i, -1]))
    return rows


@st.composite
def cases(draw):
    stages = draw(st.integers(1, 4))
    options = {
        "n": draw(st.integers(1, 25)),
        "stages": stages,
        "seed": draw(st.integers(0, 1000)),
        "levels": draw(st.sampled_from([None, 2, 5])),
        "labels": draw(st.booleans()),
        "row_cost": draw(st.booleans()),
    }
    levels = st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0, NEVER])
    lowest = st.sampled_from([0.0, 0.3, 0.7])
    below = draw(st.sampled_from([0.0, 0.5, 0.8, NEVER]))
    thresholds, defer_below = (
        np.array(draw(st.lists(each, min_size=stages - 1, max_size=stages - 1))) for each in (levels, lowest)
    )
    return options, thresholds, defer_below, below


@given(cases())
def test_evaluation_equals_a_plain_loop(make_table, case):
    options, thresholds, defer_below, below = case
    table = make_table(**options)
    policy = Policy.from_thresholds(tuple(table.stage.tolist()), thresholds)
    policy = replace(policy, defer_below=defer_below, abstain_below=below)
    seen, rows = evaluate(table, policy), by_hand(table, table.confidence, thresholds, defer_below)
    n = len(rows)
    assert seen.rows == n
    assert seen.stage_share == pytest.approx([sum(row[0] == k for row in rows) / n for k in range(table.stages)])
    assert seen.mean_cost == pytest.approx(sum(row[1] for row in rows) / n)
    assert seen.agreement == pytest.approx(sum(row[3] for row in rows) / n)
    problem = RoutingProblem.from_table(table, policy.routers, agreement=True).deferring_early(defer_below)
    gain, cost = problem.value(thresholds)
    assert gain == pytest.approx(seen.agreement)
    # With early-deferral thresholds a search runs all stages.
    assert cost == pytest.approx(seen.mean_cost) or (defer_below.any() and cost > seen.mean_cost)
    last = table.stages - 1
    answered = [row for row, sure in zip(rows, table.confidence[:, -1] >= below, strict=True) if row[0] < last or sure]
    assert seen.abstained == pytest.approx(1 - len(answered) / n)
    assert seen.abstained_interval == pytest.approx(proportion_interval(n - len(answered), n))
    if table.label is None or not answered:
        assert (seen.accuracy, seen.accuracy_interval) == (None, None)
    else:
        right = sum(row[2] for row in answered)
        assert seen.accuracy == pytest.approx(right / len(answered))
        assert seen.accuracy_interval == pytest.approx(proportion_interval(right, len(answered)))
    if table.label is None:
        assert seen.last_stage_accuracy is None
    else:
        assert seen.last_stage_accuracy == pytest.approx(np.mean(table.prediction[:, -1] == table.label))
    last = table.cost[-1] if table.cost.ndim == 1 else table.cost[:, -1].mean()
    assert seen.last_stage_cost == pytest.approx(last)
    json.dumps(seen.to_dict(), allow_nan=n == 1)  # one row has no standard deviation


def test_routers_are_applied_before_thresholds(make_table):
    table = make_table(50, 2, classes=4)
    router = Router("margin", Temperature(2.0))
    threshold = float(np.median(router.confidence(table.scores[:, 0])))
    policy = Policy(("stage0", "stage1"), (router, router), np.array([threshold]))
    scaled = table.scores[:, 0] ** 0.5
    scaled = np.sort(scaled / scaled.sum(axis=1, keepdims=True), axis=1)
    expected = np.mean(scaled[:, -1] - scaled[:, -2] >= threshold)
    assert evaluate(table, policy).stage_share[0] == pytest.approx(expected, abs=0.021)  # the median row may tie
    assert 0.4 < expected < 0.6


def test_without_scores_the_tables_confidence_is_calibrated(make_table):
    table = make_table(50, 2)
    routers = (Router("margin", Platt(1.0, 1.0)), Router("margin", Identity()))
    policy = Policy(("stage0", "stage1"), routers, np.array([0.8]))
    logit = np.log(table.confidence[:, 0] / (1 - table.confidence[:, 0]))
    assert evaluate(table, policy).stage_share[0] == pytest.approx(np.mean(1 / (1 + np.exp(-logit - 1)) >= 0.8))


def test_a_temperature_cannot_be_replayed_without_scores(make_table):
    router = Router("margin", Temperature(2.0))
    policy = Policy(("stage0", "stage1"), (router, router), np.array([0.5]))
    with pytest.raises(ScoreTableError, match=r"'stage0' .* temperature"):
        evaluate(make_table(10, 2), policy)


def test_a_policy_of_other_stages_is_refused(make_table):
    with pytest.raises(PolicyError, match="the score table has"):
        evaluate(make_table(5, 2), Policy.from_thresholds(("stage1", "stage0"), np.array([0.5])))


@given(st.integers(1, 60), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_proportions_have_clopper_and_pearsons_interval(trials, data, level):
    successes = data.draw(st.integers(0, trials))
    reference = binomtest(successes, trials).proportion_ci(level, method="exact")
    assert proportion_interval(successes, trials, level) == pytest.approx(tuple(reference), abs=1e-9)


def test_intervals_of_the_evaluation_are_those_of_its_counts(make_table):
    table = make_table(80, 3, seed=4, row_cost=True)
    policy = Policy.from_thresholds(("stage0", "stage1", "stage2"), np.array([0.8, 0.7]))
    seen, rows = evaluate(table, policy, level=0.8), by_hand(table, table.confidence, policy.thresholds, np.zeros(2))

    def reference(count):
        return tuple(binomtest(int(count), 80).proportion_ci(0.8, method="exact"))

    assert seen.accuracy_interval == pytest.approx(reference(sum(row[2] for row in rows)))
    assert seen.agreement_interval == pytest.approx(reference(sum(row[3] for row in rows)))
    for k in range(3):
        assert seen.stage_share_interval[k] == pytest.approx(reference(sum(row[0] == k for row in rows)))
    costs = np.array([row[1] for row in rows])
    half = norm.ppf(0.9) * np.sqrt(costs.var(ddof=1) / 80)
    assert seen.mean_cost_interval == pytest.approx((costs.mean() - half, costs.mean() + half))


def test_an_evaluation_survives_pickling(make_table):
    seen = evaluate(make_table(9, 2), Policy.from_thresholds(("stage0", "stage1"), np.array([0.5])))
    assert pickle.loads(pickle.dumps(seen)).to_dict() == seen.to_dict()


def test_one_stage_answers_everything():
    table = ScoreTable(np.array([[1], [2]]), np.zeros((2, 1)), np.array([3.0]), np.array(["only"]), label=[1, 1])
    seen = evaluate(table, Policy.from_thresholds(("only",), np.zeros(0)))
    assert (seen.accuracy, seen.agreement, seen.mean_cost, seen.stage_share.tolist()) == (0.5, 1.0, 3.0, [1.0])
