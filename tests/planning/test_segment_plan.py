"""The plan of segments: against all groupings, and against all assignments of replicas."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import Policy, ScoreTable, evaluate
from cascade.errors import ScoreTableError
from cascade.planning.grouping import Transport, best_segments, mean_answer_ms
from cascade.planning.segment_plan import plan_segments, share_replicas
from cascade.planning.stage_load import StageLoad

TIMES = st.floats(0, 50, allow_subnormal=False)


@st.composite
def loads(draw, most=10):
    k = draw(st.integers(1, most))
    kept = draw(st.lists(st.floats(0, 1), min_size=k - 1, max_size=k - 1))
    cost = draw(st.lists(TIMES, min_size=k, max_size=k))
    return StageLoad(tuple(f"s{i}" for i in range(k)), np.cumprod([1.0, *kept]), np.array(cost))


def all_segments(k, begins):
    """Every way to cut K stages into runs that keeps to where a segment must begin."""
    for cuts in itertools.product([False, True], repeat=k - 1):
        if all(cut or not must for cut, must in zip(cuts, begins[1:], strict=True)):
            bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), k]
            yield tuple(tuple(range(a, b)) for a, b in itertools.pairwise(bounds))


@given(loads(), TIMES, st.integers(1, 128), st.data())
def test_no_grouping_is_quicker(load, hop_ms, batch_rows, data):
    begins = data.draw(st.lists(st.booleans(), min_size=len(load.stage), max_size=len(load.stage)))
    transport = Transport(hop_ms, batch_rows)
    found = best_segments(load, transport, begins)
    choices = list(all_segments(len(load.stage), begins))
    assert found in choices
    least = min(mean_answer_ms(segments, load, transport) for segments in choices)
    assert mean_answer_ms(found, load, transport) == pytest.approx(least, rel=1e-9, abs=1e-9)


@given(loads(), st.integers(1, 128))
def test_an_expensive_hop_leaves_one_process_and_a_free_one_delays_no_accepted_row(load, batch_rows):
    expensive = batch_rows * load.cost_ms.sum() + 1
    if load.reach[-1] > 1e-6:
        assert best_segments(load, Transport(expensive, batch_rows)) == (tuple(range(len(load.stage))),)
    transport = Transport(0.0, batch_rows)
    free = best_segments(load, transport)
    alone = tuple((k,) for k in range(len(load.stage)))
    assert mean_answer_ms(free, load, transport) == pytest.approx(mean_answer_ms(alone, load, transport))


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=4), st.integers(0, 6))
def test_no_assignment_of_replicas_has_a_smaller_maximum_load(load_ms, more):
    load = np.array(load_ms)
    total = len(load) + more
    found = share_replicas(load, total)
    assert found.sum() == total
    assert found.min() >= 1
    others = (c for c in itertools.product(range(1, total + 1), repeat=len(load)) if sum(c) == total)
    assert (load / found).max() == pytest.approx(min((load / np.array(c)).max() for c in others))


@given(loads(6), st.floats(0, 1e5), st.floats(0.1, 1))
def test_a_planned_rate_needs_every_replica(load, rate, utilisation):
    plan = plan_segments(load, Transport(2.0, 64, 0.1), rate=rate, utilisation=utilisation)
    assert plan.rows_per_s >= rate * (1 - 1e-6)
    for load_ms, count in zip(plan.load_ms, plan.replicas, strict=True):
        assert count == 1 or (count - 1) * 1000 * utilisation < rate * load_ms
    assert [name for segment in plan.segments for name in segment] == list(load.stage)


@given(loads(6), st.integers(1, 8), st.integers(1, 64), st.data())
def test_no_grouping_of_as_many_processes_answers_more_rows(load, replicas, batch_rows, data):
    begins = data.draw(st.lists(st.booleans(), min_size=len(load.stage), max_size=len(load.stage)))
    plan = plan_segments(load, Transport(2.0, batch_rows, 0.1), begins, replicas=replicas)
    assert sum(plan.replicas) == max(replicas, len(plan.segments))
    for segments in all_segments(len(load.stage), begins):
        if len(segments) <= sum(plan.replicas):
            work = np.array([load.per_row_ms[list(segment)].sum() for segment in segments])
            work += np.array([0.1, *[2.0 / batch_rows] * (len(segments) - 1)])
            counts = share_replicas(work, sum(plan.replicas))
            assert plan.rows_per_s >= 0.7 * 1000 / (work / counts).max() * (1 - 1e-9)


def test_the_loads_are_those_of_the_replayed_policy(make_table):
    table = make_table(500, 3, seed=3, row_cost=True)
    policy = Policy.from_thresholds(("stage0", "stage1", "stage2"), np.array([0.7, 0.6]))
    load, replay = StageLoad.measure(table, policy), evaluate(table, policy)
    assert load.reach[0] == 1
    np.testing.assert_allclose(load.reach[:-1] - load.reach[1:], replay.stage_share[:-1])
    assert load.per_row_ms.sum() == pytest.approx(replay.mean_cost)


def test_a_stage_that_no_row_reaches_keeps_its_own_cost(make_table):
    table = make_table(50, 2, seed=3)
    load = StageLoad.measure(table, Policy.from_thresholds(("stage0", "stage1"), np.array([0.0])))
    assert load.reach.tolist() == [1, 0]
    assert load.cost_ms.tolist() == table.cost.tolist()


def test_costs_other_than_times_and_other_stages_are_refused(make_table):
    table = make_table(50, 2, seed=3)
    other = ScoreTable(table.prediction, table.confidence, table.cost, table.stage, "MFLOP", table.label)
    with pytest.raises(ScoreTableError, match="--cost time"):
        StageLoad.measure(other, Policy.from_thresholds(("stage0", "stage1"), np.array([0.5])))
    with pytest.raises(ScoreTableError, match="stages"):
        StageLoad.measure(table, Policy.from_thresholds(("a", "b"), np.array([0.5])))
