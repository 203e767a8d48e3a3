"""The order of a policy's stages: thresholds stay, and no other order of the same rules is cheaper."""

import dataclasses
import itertools

import numpy as np
import pytest

from cascade.calibration import InfeasibleTarget, Policy, calibrate, evaluate
from cascade.calibration.choice.policy_order import order_policy
from cascade.errors import PolicyError


def test_the_order_is_the_cheapest_on_the_rows_that_choose(make_table):
    table = make_table(400, 4, seed=2, row_cost=True)
    policy = Policy.from_thresholds(tuple(table.stage), np.array([0.8, 0.6, 0.7]))
    found = order_policy(table, policy, seed=5)
    half = table.take(np.random.default_rng(5).permutation(400)[:200])
    costs = {}
    for size in range(4):
        for order in itertools.permutations(range(3), size):
            stages = [*order, 3]
            part = Policy.from_thresholds(tuple(table.stage[stages]), policy.thresholds[list(order)])
            costs[part.stages] = evaluate(half.select(stages), part).mean_cost
    assert found.best.chosen_cost == pytest.approx(min(costs.values()))
    assert found.best.chosen_cost == pytest.approx(costs[found.policy.stages])
    assert found.given.cascade.chosen_cost == pytest.approx(costs[policy.stages])


def test_a_useless_stage_is_dropped_and_the_others_keep_their_rules(make_table):
    table = dataclasses.replace(make_table(300, 3, seed=1, classes=4), cost_per_mflop=np.array([0.0, 0.5, 2.0]))
    routers = [("margin", "platt"), ("maximum_probability", "temperature"), ("maximum_probability", "identity")]
    policy = calibrate(table, max_accuracy_drop=0.02, guarantee="none", routers=routers)
    never = Policy.from_dict(policy.to_dict())
    never.thresholds[0] = np.nextafter(1, 2)  # the first stage accepts no row
    found = order_policy(table, never)
    assert found.policy.stages == ("stage1", "stage2")
    assert found.policy.routers == policy.routers[1:]
    assert found.policy.thresholds.tolist() == policy.thresholds[1:].tolist()
    assert found.policy.cost_per_mflop.tolist() == [0.5, 2.0]
    assert found.policy.certificate == {"guarantee": "none", "ordered_from": never.version}
    assert found.given.comparison.cost_saving > 0
    held_out = table.take(np.random.default_rng(0).permutation(300)[150:])
    seen = evaluate(held_out.select(found.policy.stages), found.policy)
    assert (found.best.gain, found.best.mean_cost) == pytest.approx((seen.accuracy, seen.mean_cost))


def test_a_deadline_and_hops(make_table):
    table = make_table(200, 3, seed=1)  # costs 1, 10, 100
    policy = Policy.from_thresholds(tuple(table.stage), np.array([0.7, 0.7]))
    assert order_policy(table, policy).policy.stages[-1] == "stage2"
    found = order_policy(table, policy, deadline=105.0, hop_cost=1.0)
    assert found.policy.stages == ("stage0", "stage2")
    assert found.best.worst_cost == 102
    with pytest.raises(InfeasibleTarget, match="the last classifier alone takes 100 at worst"):
        order_policy(table, policy, deadline=50.0)
    with pytest.raises(InfeasibleTarget, match="one row"):
        order_policy(table.take(np.array([0])), policy)


def test_one_stage_and_no_labels(make_table):
    table = make_table(20, 1, labels=False)
    found = order_policy(table, Policy.from_thresholds(("stage0",), np.zeros(0)))
    assert (found.gain, found.policy.stages, found.given.comparison.cost_saving) == ("agreement", ("stage0",), 0)


def test_a_policy_of_other_stages_is_refused(make_table):
    with pytest.raises(PolicyError, match="the policy is for stages"):
        order_policy(make_table(20, 2), Policy.from_thresholds(("x", "y"), np.array([0.5])))
