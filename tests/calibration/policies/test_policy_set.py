"""Policy sets: their order, their file, and how they are calibrated."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import InfeasibleTarget, Policy, PolicySet, calibrate, calibrate_gears, evaluate
from cascade.errors import PolicyError

NAMES = ("small", "big")


def gear(threshold, cost=None, guarantee="certified", **target):
    observed = {} if cost is None else {"observed": {"mean_cost": cost}}
    return replace(
        Policy.from_thresholds(NAMES, np.array([threshold])),
        certificate={"guarantee": guarantee, "target": target, **observed},
    )


GOOD = (gear(0.9, 3.0, target_accuracy=0.94), gear(0.8, 2.0, target_accuracy=0.93), gear(0.7, 1.0))


def test_a_set_survives_its_file_and_the_same_set_gives_the_same_bytes(tmp_path):
    PolicySet(GOOD).save(tmp_path / "set.json")
    read = PolicySet.load(tmp_path / "set.json")
    assert read == PolicySet(GOOD)
    assert read.version == PolicySet(GOOD).version != read.best.version
    assert read.to_json() == (tmp_path / "set.json").read_text()


def test_a_policy_is_a_set_of_one_gear_with_the_same_version():
    alone = PolicySet.from_json(GOOD[0].to_json())
    assert (alone.gears, alone.version) == ((GOOD[0],), GOOD[0].version)


@given(st.permutations(range(3)))
def test_only_one_order_of_the_gears_is_taken(order):
    gears = [GOOD[place] for place in order]
    if order == [0, 1, 2]:
        assert PolicySet(gears).best == GOOD[0]
    else:
        with pytest.raises(PolicyError, match="from the most accurate to the cheapest"):
            PolicySet(gears)


@pytest.mark.parametrize(
    ("gears", "said"),
    [
        ((), "at least one"),
        ((gear(0.9, 3.0), gear(0.8)), "no observed mean cost"),
        ((gear(0.9, 3.0), gear(0.8, 3.0)), "costs 3 ms"),
        (
            (gear(0.9, 3.0), gear(0.8, 2.0, target_accuracy=0.9)),
            "guarantees target_accuracy 0.9, the one before",
        ),
        (
            (gear(0.9, 3.0, max_accuracy_drop=0.02), gear(0.8, 2.0, max_accuracy_drop=0.01)),
            "guarantees max_accuracy",
        ),
        ((gear(0.9, 3.0), replace(gear(0.8, 2.0), cost_unit="MFLOP")), "another unit"),
        ((gear(0.9, 3.0), replace(gear(0.8, 2.0), stages=("small", "huge"))), "other stages"),
    ],
)
def test_gears_that_make_no_set_are_refused(gears, said):
    with pytest.raises(PolicyError, match=said):
        PolicySet(gears)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        (PolicySet(GOOD).to_json()[:-20], "not JSON"),
        ('{"schema_version": 2, "gears": []}', "schema_version: Input should be 1"),
        ('{"gears": []}', "schema_version"),
        ('{"schema_version": 1, "gears": []}', "gears: List should have at least 1 item"),
        ('{"schema_version": 1, "gears": [7]}', r"gears.0"),
        ("[]", "(top)"),
        (json.dumps({"schema_version": 1, "gears": [PolicySet(GOOD).to_dict()]}), r"gears.0: this is a set"),
    ],
)
def test_a_file_that_is_not_a_set_is_refused(tmp_path, text, said):
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(PolicyError, match=said):
        PolicySet.load(tmp_path / "set.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PolicyError, match="does not exist"):
        PolicySet.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "certificate",
    [{}, {"guarantee": "none", "target": {"max_cost": 1.0}}, {"guarantee": "certified", "target": [1]}],
)
def test_only_a_certificate_guarantees(certificate):
    assert replace(GOOD[0], certificate=certificate).guarantees == {}
    assert GOOD[0].guarantees == {"target_accuracy": 0.94}


def test_all_gears_are_certified_together_and_get_cheaper(make_table):
    table = make_table(3000, 2)
    targets = [{"max_accuracy_drop": drop} for drop in (0.02, 0.05, 0.1)]
    gears = calibrate_gears(table, targets, delta=0.06).gears
    costs = [evaluate(table, policy).mean_cost for policy in gears]
    assert costs == sorted(costs, reverse=True)
    assert [policy.guarantees for policy in gears] == targets
    for policy, target in zip(gears, targets, strict=True):
        assert policy == calibrate(table, **target, delta=0.02)


def test_budgets_make_gears_too(make_table):
    gears = calibrate_gears(make_table(2000, 2), [{"max_cost": 8.0}, {"max_cost": 5.0}], guarantee="none").gears
    assert [policy.observed_cost <= budget for policy, budget in zip(gears, (8.0, 5.0), strict=True)] == [True, True]


def test_targets_that_make_no_gears_are_refused(make_table):
    table = make_table(2000, 2)
    with pytest.raises(ValueError, match="at least one"):
        calibrate_gears(table, [])
    with pytest.raises(ValueError, match="speed"):
        calibrate_gears(table, [{"speed": 1.0}])
    with pytest.raises(PolicyError, match="from the most accurate"):
        calibrate_gears(table, [{"max_accuracy_drop": 0.1}, {"max_accuracy_drop": 0.05}])
    with pytest.raises(InfeasibleTarget):
        calibrate_gears(table, [{"target_accuracy": 0.999}])


def test_a_key_that_nothing_reads_is_refused_by_name():
    values = PolicySet((Policy.from_thresholds(("a", "b"), np.array([0.5])),)).to_dict()
    with pytest.raises(PolicyError, match="gear: this key is not known"):
        PolicySet.from_dict(values | {"gear": 1})
    values["gears"][0]["stages"][0]["treshold"] = 1
    with pytest.raises(PolicyError, match=r"gears.0.stages.0.treshold: this key is not known"):
        PolicySet.from_dict(values)
