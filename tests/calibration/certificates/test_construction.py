"""Targets that hold by construction are certified on any rows; no others are."""

import re
from dataclasses import replace

import numpy as np
import pytest
from drawn_table import draw

from cascade.calibration import InfeasibleTarget, Policy, ScoreTable, calibrate, evaluate
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.routers import NEVER


def constructed(policy):
    """The targets of the certificate that took no test."""
    return [test["target"] for test in policy.certificate["tests"] if test["test"] == "by construction"]


@pytest.mark.parametrize("rows", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize(("name", "value"), [("max_accuracy_drop", 0.0), ("target_agreement", 1.0)])
def test_the_last_stage_alone_loses_nothing_and_agrees_with_itself_on_however_few_rows(name, value, rows):
    policy = calibrate(draw(np.random.default_rng(rows), rows, False), **{name: value})
    assert policy.thresholds.tolist() == [NEVER, NEVER]
    assert constructed(policy) == [name]
    (test,) = policy.certificate["tests"]
    assert (test["observed"], test["bound"], test["p_value"]) == (value, value, 0.0)
    truth = evaluate(draw(np.random.default_rng(0), 5000, False), policy)
    assert truth.agreement == 1
    assert Policy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("rows", [2, 3, 10, 100, 1000])
def test_the_first_stage_alone_has_its_own_cost(rows):
    table = draw(np.random.default_rng(rows), rows, False)
    policy = calibrate(table, max_cost=1.0)
    assert policy.thresholds[0] == 0
    assert constructed(policy) == ["max_cost"]
    assert evaluate(draw(np.random.default_rng(0), 5000, False), policy).mean_cost == 1
    with pytest.raises(InfeasibleTarget, match="the cheapest stage alone costs 1 ms") as caught:
        calibrate(table, max_cost=0.999)
    assert caught.value.nearest == 1.0


def test_costs_that_differ_from_row_to_row_hold_by_construction_for_no_budget():
    table = draw(np.random.default_rng(0), 300, False)
    table = replace(table, cost=np.tile(table.cost, (300, 1)) * np.random.default_rng(1).uniform(0.5, 1.5, (300, 1)))
    with pytest.raises(InfeasibleTarget, match="cannot be certified"):
        calibrate(table, max_cost=float(table.cost[:, 0].mean()))


def test_both_of_two_targets_must_hold_by_construction():
    table = draw(np.random.default_rng(0), 20, False)
    policy = calibrate(table, max_accuracy_drop=0.0, max_cost=37.0)
    assert constructed(policy) == ["max_accuracy_drop", "max_cost"]
    with pytest.raises(InfeasibleTarget, match="nearest budget"):
        calibrate(table, max_accuracy_drop=0.0, max_cost=20.0)


def test_one_stage_alone_is_its_own_last_stage():
    table = ScoreTable(np.array([[1], [2], [1]]), np.ones((3, 1)), np.array([3.0]), np.array(["only"]), label=[1, 1, 1])
    assert constructed(calibrate(table, max_accuracy_drop=0.0)) == ["max_accuracy_drop"]
    assert constructed(calibrate(table, max_cost=3.0)) == ["max_cost"]


def test_an_easier_target_is_tested_and_saves():
    policy = calibrate(draw(np.random.default_rng(3), 2000, False), max_accuracy_drop=0.03)
    assert constructed(policy) == []
    assert "advice" not in policy.certificate
    assert policy.certificate["observed"]["mean_cost"] < 20


def test_where_only_the_last_stage_alone_is_left_the_nearest_that_saves_is_named():
    table = draw(np.random.default_rng(3), 300, False)
    policy = calibrate(table, max_accuracy_drop=0.001)
    assert constructed(policy) == ["max_accuracy_drop"]
    words = policy.certificate["advice"].split()
    nearest = float(words[words.index("max_accuracy_drop") + 1])
    assert 0.001 < nearest == policy.certificate["nearest_tested"]
    assert constructed(calibrate(table, max_accuracy_drop=nearest)) == []


def timed(seed, rows, fixed):
    """Three stages of 1, 5 and 20 ms for 64 rows, of which a share of the time is that of a call."""
    table = draw(np.random.default_rng(seed), rows, False)
    full = np.array([[1.0], [5.0], [20.0]])[: table.stages]
    return replace(
        table,
        curve_rows=np.array([1, 64]),
        curve_ms=full * np.array([fixed, 1.0]),
        curve_spread=np.zeros((table.stages, 2)),
        curve_cost=full[:, 0] / 64,
        cost=full[:, 0] / 64,
        cost_per_ms=np.ones(table.stages),
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fixed", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("together", [1, 8])
@pytest.mark.parametrize("drop", [0.001, 0.02, 0.05])
def test_the_nearest_that_others_pass_is_always_easier_than_the_target(seed, fixed, together, drop):
    """Where the last stage alone is the cheapest, others may pass and cost more; so they name no harder value."""
    table = timed(seed, 600, fixed)
    certificate = calibrate(table, max_accuracy_drop=drop, arrivals=RowsTogether((together,))).certificate
    advice = certificate.get("advice", "")
    assert bool(advice) == (certificate["tests"][0]["test"] == "by construction")
    for nearest in re.findall(r"max_accuracy_drop (\S+) is the nearest", advice):
        assert float(nearest) > drop
        looser = calibrate(table, max_accuracy_drop=float(nearest), arrivals=RowsTogether((together,)))
        assert constructed(looser) == []
