"""Calibration: as good as brute force, feasible on its table, and refused where nothing is."""

import functools
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.errors import ScoreTableError
from cascade.routers import NEVER

TOLERANCE = 1e-9

optimum = functools.partial(calibrate, guarantee="none")


def all_points(table, agreement):
    """(gain, cost) of every combination of thresholds that differs on the table, by masks over its rows."""
    reference = table.prediction[:, -1] if agreement else table.label
    candidates = [[*np.unique(column), 2.0] for column in table.confidence[:, :-1].T]
    points = []
    for thresholds in itertools.product(*candidates):
        stage = np.full(len(table), table.stages - 1)
        for k in range(table.stages - 2, -1, -1):
            stage = np.where(table.confidence[:, k] >= thresholds[k], k, stage)
        # A stage that answers no row does not run.
        runs = np.array([threshold <= 1 for threshold in thresholds] + [True])
        cost = np.cumsum(np.broadcast_to(table.cost, table.prediction.shape) * runs, axis=1)
        rows = np.arange(len(table))
        points.append(((table.prediction[rows, stage] == reference).mean(), cost[rows, stage].mean()))
    return np.array(points)


def targets_of(table):
    """One value of every kind of target, from low to high, that some policy of the table reaches."""
    gain, cost = all_points(table, False).T
    agreement = all_points(table, True)[:, 0]
    last = (table.prediction[:, -1] == table.label).mean()
    for share in (0.0, 0.3, 0.7, 1.0):
        yield "target_accuracy", gain.min() + share * (gain.max() - gain.min())
        yield "max_accuracy_drop", np.clip(last - gain.max() + share * (gain.max() - gain.min()), 0, 1)
        yield "target_agreement", agreement.min() + share * (1 - agreement.min())
        yield "max_cost", cost.min() + share * (cost.max() - cost.min())


def check_against_brute_force(table, name, target, slack=0.0):
    """Asserts feasibility and optimality (but for a relative ``slack``) of a calibration."""
    seen = evaluate(table, optimum(table, **{name: float(target)}))
    gain, cost = all_points(table, name == "target_agreement").T
    if name == "max_cost":
        assert seen.mean_cost <= target * (1 + TOLERANCE)
        best = gain[cost <= target * (1 + TOLERANCE)].max()
        assert seen.accuracy >= best * (1 - slack) - TOLERANCE
        return
    reached = seen.agreement if name == "target_agreement" else seen.accuracy
    least = seen.last_stage_accuracy - target if name == "max_accuracy_drop" else target
    assert reached >= least - TOLERANCE
    assert seen.mean_cost <= cost[gain >= least - TOLERANCE].min() * (1 + slack) + TOLERANCE


@given(st.integers(1, 60), st.integers(0, 1000), st.sampled_from([None, 2, 5, 20]), st.booleans())
@settings(max_examples=60)
def test_two_stages_equal_brute_force(make_table, n, seed, levels, row_cost):
    table = make_table(n, 2, seed, levels, row_cost=row_cost)
    for name, target in targets_of(table):
        check_against_brute_force(table, name, target)


def test_two_stages_of_many_rows_equal_brute_force(make_table):
    table = make_table(1500, 2, seed=1)
    for name, target in targets_of(table):
        check_against_brute_force(table, name, target)


@given(st.integers(1, 20), st.integers(0, 1000), st.sampled_from([None, 2, 5]), st.booleans())
@settings(max_examples=25)
def test_three_stages_equal_brute_force(make_table, n, seed, levels, row_cost):
    table = make_table(n, 3, seed, levels, row_cost=row_cost)
    for name, target in targets_of(table):
        check_against_brute_force(table, name, target)


@pytest.mark.parametrize("seed", range(3))
def test_four_stages_are_within_half_a_percent_of_brute_force(make_table, seed):
    table = make_table(40, 4, seed, levels=12)
    for name, target in targets_of(table):
        check_against_brute_force(table, name, target, slack=0.005)


@given(st.integers(0, 1000), st.booleans())
@settings(max_examples=25)
def test_a_coarse_grid_is_refined_to_within_half_a_percent(make_table, seed, for_cost):
    # Four candidates per axis, where the tables have 13: most of the work is the refinement's.
    table = make_table(60, 3, seed, levels=12)
    problem = RoutingProblem(table.confidence[:, :-1], table.correct.astype(float), table.cumulative_cost)
    gain, cost = all_points(table, False).T
    if for_cost:
        most = float(np.quantile(cost, 0.4))
        found = best_thresholds(problem, Target(most_cost=most), largest=16)
        assert problem.value(found)[1] <= most + TOLERANCE
        assert problem.value(found)[0] >= gain[cost <= most].max() * 0.995
    else:
        least = float(gain.max())
        found = best_thresholds(problem, Target(least_gain=least), largest=16)
        assert found is not None, "the target can be reached, only not on the coarse grid"
        assert problem.value(found)[0] >= least - TOLERANCE


def test_a_row_may_skip_a_useless_stage():
    # The middle stage is expensive and always wrong; both others are right where they are confident.
    label = np.zeros(40, dtype=int)
    sure = np.arange(40) % 2 == 0
    prediction = np.stack([np.where(sure, 0, 1), np.ones(40, dtype=int), label], axis=1)
    confidence = np.stack([np.where(sure, 0.9, 0.2), np.full(40, 0.99), np.ones(40)], axis=1)
    table = ScoreTable(prediction, confidence, np.array([1.0, 1.0, 5.0]), np.array(["a", "b", "c"]), label=label)
    policy = optimum(table, target_accuracy=1.0)
    assert policy.thresholds.tolist() == [0.9, NEVER]
    assert evaluate(table, policy).stage_share.tolist() == [0.5, 0.0, 0.5]


@given(
    st.integers(1, 40),
    st.integers(2, 4),
    st.integers(0, 1000),
    st.sampled_from(["target_accuracy", "max_accuracy_drop", "target_agreement", "max_cost"]),
)
def test_a_target_that_cannot_be_reached_names_the_nearest_that_can(make_table, n, stages, seed, name):
    table = make_table(n, stages, seed, levels=4)
    points = all_points(table, name == "target_agreement")
    last = (table.prediction[:, -1] == table.label).mean()
    impossible = {
        "target_accuracy": min(1.0, points[:, 0].max() + 1e-3),
        "target_agreement": None,  # the last stage alone agrees with itself
        "max_accuracy_drop": None,  # the last stage alone loses nothing
        "max_cost": points[:, 1].min() * 0.999,
    }[name]
    if impossible is None or (name == "target_accuracy" and points[:, 0].max() == 1):
        optimum(table, **{name: 1.0 if name == "target_agreement" else 0.0})
        return
    with pytest.raises(InfeasibleTarget) as caught:
        optimum(table, **{name: impossible})
    best = points[:, 0].max() if name == "target_accuracy" else points[:, 1].min()
    assert caught.value.nearest == pytest.approx(best)
    assert f"{caught.value.nearest:.6g}" in str(caught.value)
    seen = evaluate(table, optimum(table, **{name: caught.value.nearest}))
    reached = seen.accuracy if name == "target_accuracy" else seen.mean_cost
    assert reached == pytest.approx(caught.value.nearest)
    assert last <= best + TOLERANCE or name == "max_cost"


@pytest.mark.parametrize("stages", [5, pytest.param(6, marks=pytest.mark.slow)])
def test_the_nearest_target_can_be_reached_where_the_grid_is_coarse(make_table, stages):
    table = make_table(400, stages, seed=2)
    with pytest.raises(InfeasibleTarget) as caught:
        optimum(table, target_accuracy=1.0)
    policy = optimum(table, target_accuracy=caught.value.nearest)
    assert evaluate(table, policy).accuracy >= caught.value.nearest - TOLERANCE


def test_one_stage_has_one_policy():
    table = ScoreTable(np.array([[1], [2]]), np.ones((2, 1)), np.array([3.0]), np.array(["only"]), label=[1, 1])
    assert optimum(table, target_accuracy=0.5).thresholds.shape == (0,)
    assert optimum(table, max_cost=3.0).thresholds.shape == (0,)
    with pytest.raises(InfeasibleTarget) as caught:
        optimum(table, target_accuracy=0.6)
    assert caught.value.nearest == 0.5


def test_without_labels_a_budget_buys_agreement(make_table):
    table = make_table(60, 3, seed=5, labels=False)
    seen = evaluate(table, optimum(table, max_cost=30.0))
    agreement, cost = all_points(table, agreement=True).T
    assert seen.accuracy is None
    assert seen.mean_cost <= 30 * (1 + TOLERANCE)
    assert seen.agreement == pytest.approx(agreement[cost <= 30].max())
    with pytest.raises(ScoreTableError, match="target_agreement"):
        optimum(table, target_accuracy=0.5)


@pytest.mark.parametrize(
    "targets",
    [
        {},
        {"target_accuracy": 0.9, "max_accuracy_drop": 0.1},
        {"target_accuracy": 0.9, "target_agreement": 0.9, "max_cost": 1.0},
        {"target_accuracy": 1.1},
        {"target_accuracy": True},
        {"target_accuracy": "0.9"},
        {"max_cost": 2.0, "max_abstain": False},
        {"target_accuracy": float("nan")},
        {"max_accuracy_drop": -0.1},
        {"target_agreement": 2},
        {"max_cost": 0.0},
        {"max_cost": float("inf")},
        {"max_cost": float("nan")},
    ],
    ids=str,
)
def test_no_or_too_many_targets_or_one_out_of_its_range_are_refused(make_table, targets):
    with pytest.raises(ValueError, match=r"must be|give one of"):
        optimum(make_table(5, 2), **targets)


@pytest.mark.parametrize("calibrator", ["identity", "temperature", "platt", "isotonic"])
@pytest.mark.parametrize("score", ["maximum_probability", "margin", "negative_entropy"])
def test_routers_are_fitted_and_the_target_holds_with_them(make_table, score, calibrator):
    table = make_table(400, 3, classes=5, seed=3)
    best = evaluate(table, optimum(table, max_cost=1e9)).accuracy
    policy = optimum(table, target_accuracy=best - 0.05, routers=[(score, calibrator)] * 3)
    seen = evaluate(table, policy)
    assert [router.score for router in policy.routers] == [score] * 3
    assert {type(router.calibrator).__name__.lower() for router in policy.routers} == {calibrator}
    assert seen.accuracy >= best - 0.05 - TOLERANCE
    assert seen.mean_cost < seen.last_stage_cost


def test_an_empirical_certificate_records_target_and_observations_and_guarantees_nothing(make_table):
    table = make_table(200, 2, seed=6)
    policy = optimum(table, target_agreement=0.9)
    seen = evaluate(table, policy)
    certificate = dict(policy.certificate)
    assert certificate["guarantee"] == "none"
    assert certificate["target"] == {"target_agreement": 0.9}
    assert certificate["table_sha256"] == table.digest
    assert certificate["rows"] == 200
    observed = {
        "accuracy": seen.accuracy,
        "agreement": seen.agreement,
        "mean_cost": seen.mean_cost,
        "cost_unit": "ms",
        "last_stage_cost": seen.last_stage_cost,
        "stage_share": seen.stage_share.tolist(),
        "reached_share": seen.reached_share.tolist(),
    }
    assert certificate["observed"] == observed
    assert Policy.from_json(policy.to_json()) == policy


def test_the_same_table_gives_the_same_bytes(make_table):
    texts = {optimum(make_table(300, 3, seed=7), target_accuracy=0.8).to_json() for _ in range(2)}
    assert len(texts) == 1


def test_wrong_number_of_routers_is_refused(make_table):
    with pytest.raises(ValueError, match="routers must be 3 pairs"):
        optimum(make_table(9, 3), max_cost=5.0, routers=[("margin", "identity")])


def test_mean_costs_of_rows_go_into_the_policy(make_table):
    table = make_table(50, 2, row_cost=True)
    assert optimum(table, target_agreement=0.5).cost == pytest.approx(table.cost.mean(axis=0))


def test_twenty_thousand_rows_of_four_stages_take_less_than_five_seconds(make_table):
    table = make_table(20_000, 4, seed=8)
    begin = time.process_time()  # the machine may be busy
    policy = optimum(table, target_accuracy=0.85)
    assert time.process_time() - begin < 5
    assert evaluate(table, policy).accuracy >= 0.85
