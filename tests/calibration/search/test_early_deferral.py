"""Early deferral: never worse than without, found where rows are hopeless, and valid in a certificate."""

import itertools

import numpy as np
import pytest

from cascade.calibration import Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.choice.policy_order import order_policy
from cascade.calibration.routing_problem import RoutingProblem
from cascade.calibration.search.best_thresholds import Target, best_thresholds
from cascade.calibration.search.early_deferral import best_early_deferral
from cascade.errors import PolicyError
from cascade.routers import NEVER

COST = np.array([1.0, 6.0, 30.0])


def hopeless(n, seed=0, stages=3):
    """Easy rows that all get right, torn ones that all but the first do, and others that only the last one does."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, n, p=[0.5, 0.25, 0.25])
    right = np.ones((n, stages), dtype=bool)
    right[:, 0] = kind == 0
    right[:, 1:-1] = (kind < 2)[:, None]
    right[:, -1] |= random.random(n) < 0.95
    confidence = np.clip(np.array([0.9, 0.6, 0.2])[kind] + random.normal(0, 0.08, n), 0, 1)
    others = np.clip(np.array([0.9, 0.9, 0.3])[kind][:, None] + random.normal(0, 0.08, (n, stages - 1)), 0, 1)
    prediction = np.where(right, 1, 0)
    cost = np.append(np.append(1.0, np.full(stages - 2, 6.0)), 30.0)
    names = np.array([f"s{k}" for k in range(stages)])
    return ScoreTable(prediction, np.column_stack([confidence, others]), cost, names, "ms", np.ones(n, dtype=int))


def problem_of(table):
    gain = table.correct.astype(float)
    return RoutingProblem(table.confidence[:, :-1], gain, table.cumulative_cost)


@pytest.mark.parametrize("seed", range(3))
def test_for_fixed_early_deferral_thresholds_the_search_is_that_of_brute_force(seed):
    table = hopeless(30, seed)
    problem = problem_of(table).deferring_early(np.array([0.35, 0.0]))
    target = Target(least_gain=float(table.correct[:, -1].mean()) - 0.05)
    found = best_thresholds(problem, target)
    candidates = [[*np.unique(column), NEVER] for column in problem.confidence.T]
    policy = [
        Policy(
            tuple(table.stage),
            Policy.from_thresholds(tuple(table.stage), np.ones(2)).routers,
            np.array(each),
            COST,
            defer_below=np.array([0.35, 0.0]),
        )
        for each in itertools.product(*candidates)
    ]
    seen = [evaluate(table, each) for each in policy]
    least = min(each.mean_cost for each in seen if each.accuracy >= target.least_gain - 1e-9)
    assert problem.value(found)[1] == pytest.approx(least)


@pytest.mark.parametrize("stages", [3, 4])
def test_hopeless_rows_skip_and_the_target_costs_less(stages):
    table = hopeless(2000, stages=stages)
    drop = {"max_accuracy_drop": 0.01, "guarantee": "none"}
    plain, two_sided = calibrate(table, **drop), calibrate(table, **drop, early_deferral=True)
    assert not plain.defers_early
    assert 0.2 < two_sided.defer_below[0] < 0.7
    assert two_sided.defer_below[-1] == 0
    seen = evaluate(table, two_sided)
    assert seen.accuracy >= table.correct[:, -1].mean() - 0.01 - 1e-9
    assert seen.mean_cost < 0.97 * evaluate(table, plain).mean_cost
    assert seen.mean_cost == pytest.approx(two_sided.certificate["observed"]["mean_cost"])


def test_no_level_is_used_that_does_not_help():
    table = hopeless(400)
    problem = problem_of(table)
    assert best_early_deferral(problem, Target(most_cost=1.0)).tolist() == [0.0, 0.0]
    assert best_early_deferral(problem, Target(least_gain=1.1)).tolist() == [0.0, 0.0]
    two = problem_of(table.select([0, 2]))
    assert best_early_deferral(two, Target(least_gain=0.5)).tolist() == [0.0]


def test_a_certificate_counts_the_rows_that_skip():
    table = hopeless(4000)
    plain = calibrate(table, max_accuracy_drop=0.02, max_cost=30.0)
    two_sided = calibrate(table, max_accuracy_drop=0.02, max_cost=30.0, early_deferral=True)
    assert two_sided.defers_early
    drop, cost = two_sided.certificate["tests"]
    assert cost["observed"] < cost["bound"] < 30.0
    assert two_sided.certificate["observed"]["mean_cost"] < plain.certificate["observed"]["mean_cost"]
    fresh = evaluate(hopeless(50_000, seed=1), two_sided)
    assert fresh.mean_cost == pytest.approx(cost["observed"], rel=0.05)
    assert fresh.last_stage_accuracy - fresh.accuracy == pytest.approx(drop["observed"], abs=0.01)


def test_rows_that_skip_keep_the_bound_of_those_that_run_through_all_stages():
    cost = np.tile(np.cumsum(COST), (4, 1))
    problem = RoutingProblem(np.full((4, 2), 0.1), np.ones((4, 3)), cost, np.asarray(COST, dtype=float))
    early = problem.deferring_early(np.array([0.5, 0.0]))
    assert early.cost.tolist() == [[1.0, 31.0, 31.0]] * 4
    assert early.highest_cost == 37.0


def test_the_stages_of_a_policy_that_defers_early_are_not_ordered():
    table = hopeless(50)
    policy = Policy.from_thresholds(tuple(table.stage), np.ones(2))
    policy = Policy(policy.stages, policy.routers, policy.thresholds, defer_below=np.array([0.5, 0.0]))
    with pytest.raises(PolicyError, match="defer_below"):
        order_policy(table, policy)
