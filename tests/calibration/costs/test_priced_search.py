"""The search at cost curves: against brute force over all thresholds, and its certificates."""

import itertools

import numpy as np
import pytest
from curves import curves, line, with_curves
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, Policy, ScoreTable, calibrate, choose_cascade, evaluate, frontier
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.evaluation.break_even import pays_from
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.routers import NEVER


@st.composite
def tables(draw, stages=None, most_rows=14):
    stages = stages or draw(st.integers(1, 4))
    n = draw(st.integers(1, most_rows))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    prediction = (random.random((n, stages)) > np.linspace(0.6, 0.9, stages)).astype(int)
    confidence = random.integers(0, 4, (n, stages)) / 4
    names = np.array([f"s{k}" for k in range(stages)])
    table = ScoreTable(prediction, confidence, np.ones(stages), names, label=np.zeros(n, dtype=int))
    return with_curves(table, *(draw(curves()) for _ in range(stages)))


def true_value(table, thresholds, arrivals):
    """Accuracy and predicted cost, by a walk of every row and the curves themselves."""
    reached, right = np.zeros(table.stages), 0
    runs = [*(threshold <= 1 for threshold in thresholds), True]
    for i in range(len(table)):
        for k in range(table.stages):
            reached[k] += runs[k]
            if k == table.stages - 1 or table.confidence[i, k] >= thresholds[k]:
                right += table.prediction[i, k] == table.label[i]
                break
    shares = reached / len(table)
    cost = [float(c.split_ms(0)) + arrivals.mean_ms(c, np.array([s]))[0] for c, s in zip(table.curves, shares)]
    return right / len(table), sum(cost)


def every_point(table, arrivals):
    axes = [[*np.unique(column), NEVER] for column in table.confidence[:, :-1].T]
    return np.array([true_value(table, thresholds, arrivals) for thresholds in itertools.product(*axes)])


@given(tables(), st.sampled_from([1, 4, 64]))
@settings(max_examples=25)
def test_small_tables_are_solved_exactly_at_the_true_cost(table, together):
    arrivals = RowsTogether((together,))
    gain, cost = every_point(table, arrivals).T
    for share in (0.0, 0.5, 1.0):
        least = gain.min() + share * (gain.max() - gain.min())
        policy = calibrate(table, target_accuracy=float(least), guarantee="none", arrivals=arrivals)
        seen = evaluate(table, policy, arrivals=arrivals)
        assert seen.accuracy >= least - 1e-9
        # Prices are a table, linear in between.
        assert seen.mean_cost == pytest.approx(cost[gain >= least - 1e-9].min(), rel=2e-3)
        most = cost.min() + share * (cost.max() - cost.min())
        policy = calibrate(table, max_cost=float(most) * (1 + 2e-3), guarantee="none", arrivals=arrivals)
        seen = evaluate(table, policy, arrivals=arrivals)
        assert seen.mean_cost <= most * (1 + 3e-3)
        assert seen.accuracy >= gain[cost <= most].max() - 1e-9


@given(tables(stages=3, most_rows=40))
@settings(max_examples=15)
def test_beyond_the_grid_the_search_comes_close(table):
    problem = RoutingProblem.from_table(table, Policy.from_thresholds(tuple(table.stage), np.zeros(2)).routers, False)
    gain = float(np.quantile(table.correct.mean(axis=0), 0.5))
    exact = best_thresholds(problem, Target(least_gain=gain))
    found = best_thresholds(problem, Target(least_gain=gain), largest=6)
    if exact is not None and found is not None:
        assert problem.value(found)[0] >= gain - 1e-9
        assert problem.value(found)[1] <= 1.25 * problem.value(exact)[1]


@given(tables())
@settings(max_examples=25)
def test_the_frontier_is_made_of_true_points(table):
    routers = Policy.from_thresholds(tuple(table.stage), np.zeros(table.stages - 1)).routers
    problem = RoutingProblem.from_table(table, routers, False)
    points = frontier(problem)
    assert [point.cost for point in points] == sorted(point.cost for point in points)
    for point in points:
        assert true_value(table, point.thresholds, RowsTogether((64,))) == pytest.approx(
            (point.gain, point.cost), rel=2e-3, abs=1e-9
        )


def big_table(n=4000, seed=0):
    """A cheap stage with a high cost per call, an expensive one without."""
    random = np.random.default_rng(seed)
    ease = random.normal(size=(n, 1)) + 0.5 * random.normal(size=(n, 2))
    right = random.random((n, 2)) < 1 / (1 + np.exp(-np.array([1.0, 4.0]) - 2 * ease))
    confidence = 1 / (1 + np.exp(-np.array([1.0, 4.0]) - 2 * ease))
    table = ScoreTable(
        np.where(right, 0, 1), confidence, np.ones(2), np.array(["a", "b"]), label=np.zeros(n, dtype=int)
    )
    return with_curves(table, line(8.0, 0.01), line(0.1, 0.5))


def test_a_stage_with_a_high_cost_per_call_pays_only_for_many_rows():
    table = big_table()
    alone = calibrate(table, max_accuracy_drop=0.02, guarantee="none", arrivals=RowsTogether((1,)))
    assert alone.runs.tolist() == [False, True]
    assert alone.thresholds.tolist() == [NEVER]
    many = calibrate(table, max_accuracy_drop=0.02, guarantee="none", arrivals=RowsTogether((1000,)))
    assert many.runs.tolist() == [True, True]
    assert evaluate(table, many).mean_cost < 0.9 * evaluate(table, many).last_stage_cost
    assert "no cascade" in evaluate(table, many, arrivals=RowsTogether((1,))).warning
    assert evaluate(table, many).warning is None
    size = pays_from(table, alone)
    assert 16 <= size <= 64
    below = calibrate(table, max_accuracy_drop=0.02, guarantee="none", arrivals=RowsTogether((size // 2,)))
    assert not below.runs[0]


def test_the_choice_of_models_depends_on_the_rows_together():
    table = big_table()
    assert choose_cascade(table, max_accuracy_drop=0.02, arrivals=RowsTogether((1,))).best.stages == ("b",)
    choice = choose_cascade(table, max_accuracy_drop=0.02, arrivals=RowsTogether((1000,)))
    assert choice.best.stages == ("a", "b")
    assert choice.best.mean_cost < choice.best.last_stage_cost


def test_a_policy_keeps_curves_arrivals_and_predicted_times():
    table = big_table()
    policy = calibrate(table, max_accuracy_drop=0.02, arrivals=RowsTogether((1000,)))
    assert "1,000 rows together" in policy.certificate["cost_is"]
    again = Policy.from_json(policy.to_json())
    assert again == policy
    assert again.predicted_ms() == pytest.approx(evaluate(table, policy).mean_cost)
    assert again.last_stage_ms() == pytest.approx(evaluate(table, policy).last_stage_cost)
    assert again.calls(0, 1000) == table.curves[0].calls(1000)
    # Constants that are exact in the mean, for costs of single rows.
    assert float(again.cost @ again.reached_share) == pytest.approx(again.predicted_ms())
    bare = Policy.from_thresholds(("a", "b"), np.array([0.5]))
    assert bare.predicted_ms() is None
    assert bare.calls(0, 10_000) == 1


def test_a_certified_budget_holds_for_the_predicted_cost_of_the_population():
    population = big_table(40_000, seed=99)
    arrivals, delta, draws = RowsTogether((64,)), 0.1, 80
    budget = 0.5 * evaluate(population, calibrate(population, max_cost=1e9, guarantee="none")).last_stage_cost
    violated = certified = 0
    for seed in range(draws):
        rows = np.random.default_rng(seed).integers(0, len(population), 600)
        try:
            policy = calibrate(population.take(rows), max_cost=budget, delta=delta, arrivals=arrivals, seed=seed)
        except InfeasibleTarget:
            continue
        certified += 1
        violated += evaluate(population, policy).mean_cost > budget
    assert certified > draws / 2
    assert violated <= delta * draws + 3 * np.sqrt(delta * (1 - delta) * draws)


def test_work_of_rows_counts_at_a_curve():
    table = big_table(500)
    per_row = np.column_stack([np.full(500, table.cost[0]), table.cost[1] * np.repeat([0.5, 1.5], 250)])
    table = ScoreTable(table.prediction, table.confidence, per_row, table.stage, label=table.label).with_curves(
        table.curves
    )
    everything = Policy.from_thresholds(("a", "b"), np.array([NEVER]))
    whole = evaluate(table, everything).mean_cost
    light = evaluate(table.take(np.arange(250)), everything).mean_cost
    heavy = evaluate(table.take(np.arange(250, 500)), everything).mean_cost
    assert light < whole < heavy
    assert heavy == pytest.approx(1.5 * whole, rel=0.1)


def test_a_table_without_curves_has_constant_costs():
    table = big_table(200).with_curves(())
    assert not table.has_curves
    policy = calibrate(table, max_accuracy_drop=0.05, guarantee="none")
    assert policy.arrivals is None
    assert policy.curves == ()
    assert evaluate(table, policy, arrivals=RowsTogether((1,))).mean_cost == evaluate(table, policy).mean_cost


def test_rows_may_skip_at_cost_curves():
    random = np.random.default_rng(3)
    confidence = random.random((2000, 3))
    prediction = (random.random((2000, 3)) > 0.5 + 0.45 * confidence).astype(int)
    table = ScoreTable(prediction, confidence, np.ones(3), np.array(["a", "b", "c"]), label=np.zeros(2000, dtype=int))
    table = with_curves(table, line(0.1, 0.01), line(1.0, 0.3), line(1.0, 1.0))
    policy = calibrate(table, max_cost=0.8, early_deferral=True)
    assert evaluate(table, policy).mean_cost <= 0.85
