"""Explanations of a row, against the engine."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy, ScoreTable, calibrate
from cascade.cascade import Cascade
from cascade.collection.collect import collect
from cascade.errors import PolicyError, ScoreTableError
from cascade.explanation import explain
from cascade.stage import Stage

ROWS = 120
NAMES = ("a", "b", "c")


def make_stages(seed=0):
    """Three fake stages that answer row r from line r of their tables, ever better."""
    rng = np.random.default_rng(seed)
    label = np.arange(ROWS) % 3
    stages = []
    for name, skill in zip(NAMES, (0.5, 1.5, 3.0), strict=True):
        logits = rng.normal(size=(ROWS, 3))
        logits[np.arange(ROWS), label] += skill
        table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        stages.append(Stage(name, FakeBackend(table.tolist())))
    return stages, label


STAGES, LABEL = make_stages()
INDICES = np.arange(ROWS)[:, None]


@pytest.fixture(scope="module")
def table():
    return dataclasses.replace(collect(STAGES, INDICES, LABEL, curve_seconds=0), cost=np.array([1.0, 4.0, 20.0]))


UNIT = st.floats(0, 1)


@given(st.integers(0, ROWS - 1), st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT), st.just(0.0) | UNIT)
def test_the_way_is_that_of_the_engine_bit_for_bit(row, thresholds, lowest, abstain_below):
    plain = Policy.from_thresholds(NAMES, np.array(thresholds))
    policy = dataclasses.replace(plain, cost=np.array([1.0, 4.0, 20.0]), defer_below=np.array(lowest))
    policy = dataclasses.replace(policy, abstain_below=abstain_below)
    ((way,), pieces) = explain(STAGES, INDICES[row : row + 1], [policy])
    answers = Cascade(STAGES, policy).predict(INDICES[row : row + 1])
    word = way.answering
    assert (word.stage, word.answer) == (NAMES[answers.stage[0]], answers.answer[0])
    assert (word.confidence, word.running_cost) == (answers.confidence[0], answers.cost[0])
    assert sum(each.cost for each in way.stages if each.asked) == answers.cost[0]
    assert [each.running_cost is None for each in way.stages] == [not each.asked for each in way.stages]
    assert way.abstained == (answers.abstained is not None)
    assert way.stages[-1].threshold == (abstain_below or None)
    assert pieces == []


@pytest.mark.parametrize("routers", [("deferral",), ("margin", "platt")])
def test_heads_and_calibrators_are_the_policys(table, routers):
    choice = (routers[0], "identity" if len(routers) == 1 else routers[1])
    policy = calibrate(table, max_cost=15.0, guarantee="none", routers=[choice] * 3)
    answers = Cascade(STAGES, policy).predict(INDICES)
    for row in range(0, ROWS, 7):
        ((way,), _) = explain(STAGES, INDICES[row : row + 1], [policy])
        assert way.answering.stage == NAMES[answers.stage[row]]
        assert way.answering.confidence == pytest.approx(answers.confidence[row], abs=1e-12)


def test_the_frontier_is_cut_where_another_stage_answers(table):
    policy = dataclasses.replace(Policy.from_thresholds(NAMES, np.array([0.5, 0.5])), cost=np.array([1.0, 4.0, 20.0]))
    (_, pieces) = explain(STAGES, INDICES[3:4], [policy], table)
    assert len(pieces) > 1
    assert sum(piece.points for piece in pieces) <= 200
    costs = [cost for piece in pieces for cost in piece.mean_cost]
    assert costs == sorted(costs)
    for piece in pieces:
        k = NAMES.index(piece.stage)
        assert piece.answer == int(np.argmax(STAGES[k].predict(INDICES[3:4]).probabilities))
        # Stages that do not pay at an operating point are not run there.
        for cost in piece.cost:
            assert (1.0, 4.0, 20.0)[k] <= cost <= sum((1.0, 4.0, 20.0)[: k + 1])


def test_the_cost_of_a_row_along_the_frontier_does_not_depend_on_the_policys_stages(table):
    """Every row that comes costs a lone first stage its mean cost, also under a policy that never runs it."""
    curves = dataclasses.replace(
        table,
        curve_rows=np.array([1, 64]),
        curve_ms=np.array([[1.0, 4.0], [4.0, 30.0], [10.0, 60.0]]),
        curve_spread=np.zeros((3, 2)),
        curve_cost=table.cost,
        cost_per_ms=np.ones(3),
    )
    policy = calibrate(curves, max_accuracy_drop=0.0)
    assert not policy.runs[0]
    for index in range(5):
        (_, pieces) = explain(STAGES, INDICES[index : index + 1], [policy], curves)
        lone = [piece for piece in pieces if piece.stage == NAMES[0]]
        assert lone
        assert lone[0].cost[0] == pytest.approx(lone[0].mean_cost[0])


def test_two_policies_are_compared_and_others_are_refused(table):
    sure = Policy.from_thresholds(NAMES, np.array([1.0, 1.0]))
    daring = Policy.from_thresholds(NAMES, np.array([0.0, 0.0]))
    ways, _ = explain(STAGES, INDICES[:1], [sure, daring])
    assert [way.answering.stage for way in ways] == ["c", "a"]
    assert ways[0].to_dict()["stage"] == "c"
    with pytest.raises(PolicyError):
        explain(STAGES, INDICES[:1], [Policy.from_thresholds(("a", "b"), np.array([0.5]))])
    with pytest.raises(ScoreTableError):
        explain(STAGES, INDICES[:1], [sure], ScoreTable.select(table, ["b", "a", "c"]))
