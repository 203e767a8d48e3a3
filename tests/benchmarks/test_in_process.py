"""The engine as a target, what it adds to its models, and the last stage alone."""

import asyncio
import types
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.backends import fake_backend
from cascade.backends.fake_backend import FakeBackend
from cascade.benchmarks import overhead
from cascade.benchmarks.clients.call_lanes import InProcessLanes
from cascade.benchmarks.clients.lane import ANSWERED, REFUSED
from cascade.benchmarks.overhead import CHUNK_BATCHES, measure_engine
from cascade.benchmarks.workload import Batch, Workload
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.errors import RowsError
from cascade.stage import Stage


def answered(cascade, workload, connections=1):
    """(status, columns) of every batch, over as many lanes."""

    async def main():
        lanes = await InProcessLanes(cascade, workload)(connections)
        found = [asyncio.get_running_loop().create_future() for _ in workload.batches]
        for place, ended in enumerate(found):
            lanes[place % connections].send(place, lambda *seen, ended=ended: ended.set_result(seen))
        try:
            return await asyncio.gather(*found)
        finally:
            for lane in lanes:
                await lane.close()

    return asyncio.run(main())


def test_the_engine_replies_what_the_cascade_answers(fake_cascade, labelled_rows):
    cascade, (rows, label) = fake_cascade(0.5), labelled_rows
    ((status, columns),) = answered(cascade, Workload((Batch(rows, label),)))
    assert status == ANSWERED
    assert columns["answer"] == label.tolist()
    assert columns["stage"] == ["small"] * 32 + ["big"] * 32
    assert columns["cost"] == [1.0] * 32 + [11.0] * 32
    assert columns["policy_version"] == cascade.policy.version


def test_what_the_cascade_raises_is_a_failed_request_with_its_words(fake_cascade):
    cascade = fake_cascade(0.5)
    cascade.stages[0].backend.predict = lambda rows: (_ for _ in ()).throw(RowsError("bad rows"))
    ((status, message),) = answered(cascade, Workload.from_rows(np.zeros((2, 1)), None, 2))
    assert (status, "bad rows" in message) == (REFUSED, True)


def test_a_backend_is_never_called_by_two_at_a_time(fake_cascade, labelled_rows):
    cascade = fake_cascade(0.0, (1e-4, 1e-4))
    inside, most = [0], [0]

    def counted(call):
        def predict(rows):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            try:
                return call(rows)
            finally:
                inside[0] -= 1

        return predict

    for stage in cascade.stages:
        stage.backend.predict = counted(stage.backend.predict)
    answered(cascade, Workload.from_rows(*labelled_rows, 8), connections=4)
    assert most[0] == 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the models' sleep moves on."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(fake_backend, "time", types.SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(overhead, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return now


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 8, 64])
def test_an_engine_that_costs_nothing_has_an_overhead_of_one(clock, fake_cascade, labelled_rows, share, size):
    cascade = fake_cascade(share, (1.0, 10.0))
    seen = measure_engine(cascade, Workload.from_rows(*labelled_rows, size), seconds=1e4)
    assert seen.rows >= 128
    assert seen.stage_ms_per_row == pytest.approx({"small": 1e3, "big": 1e4})
    # Whole passes see each share exactly; a pass may be cut at a chunk of batches.
    reached = seen.reached_share["big"]
    assert reached == pytest.approx(1 - share, abs=CHUNK_BATCHES * size / seen.rows)
    assert seen.reached_share["small"] == 1.0
    assert seen.ms_per_row == pytest.approx(1e3 + 1e4 * reached)
    assert (seen.overhead, seen.engine_only) == (pytest.approx(1.0), pytest.approx(1.0))
    assert seen.biggest_ratio == pytest.approx(1e4 / seen.ms_per_row)


def test_time_of_the_engine_is_overhead(clock, fake_cascade, labelled_rows, monkeypatch):
    cascade = fake_cascade(0.5, (1.0, 10.0))
    inner = Cascade.predict

    def predict(self, rows):
        clock[0] += 0.6 * len(rows)  # a tenth of the models' 6 seconds a row
        return inner(self, rows)

    monkeypatch.setattr(Cascade, "predict", predict)
    seen = measure_engine(cascade, Workload.from_rows(*labelled_rows, 64), 1e4)
    assert seen.overhead == pytest.approx(1.1)
    assert seen.engine_only == pytest.approx(1.1)


def test_small_batches_of_later_stages_count_as_overhead_but_not_as_the_engines(clock, fake_cascade, labelled_rows):
    cascade = fake_cascade(0.5, (1.0, 10.0))
    backend = cascade.stages[1].backend
    inner = backend.predict

    def predict(rows):
        clock[0] += 64.0  # a call costs as much as its rows, however few
        return inner(rows)

    backend.predict = predict
    seen = measure_engine(cascade, Workload.from_rows(*labelled_rows, 64), 1e4)
    # Of 64 rows: 64 + 32 * 10 + 64 seconds, against 64 * 1 + 32 * (10 + 1) for the ideal.
    assert seen.overhead == pytest.approx(448 / 416)
    assert seen.engine_only == pytest.approx(1.0)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=5), st.floats(1.0, 3.0))
def test_overhead_of_a_sum_of_stages(times, added):
    shares = np.linspace(1, 0.2, len(times))
    ideal = sum(time * share for time, share in zip(times, shares))
    assert overhead.engine_overhead(added * ideal, times, shares) == pytest.approx(added)


def test_rows_that_skip_a_stage_do_not_count_as_having_reached_it(clock, fake_cascade, labelled_rows):
    small, big = fake_cascade(0.5, (1.0, 10.0)).stages
    middle = Stage("middle", FakeBackend(big.backend.probabilities, 3.0))
    names = ("small", "middle", "big")
    policy = replace(Policy.from_thresholds(names, np.array([0.8, 1.0])), defer_below=np.array([0.5, 0.0]))
    seen = measure_engine(Cascade([small, middle, big], policy), Workload.from_rows(*labelled_rows, 8), seconds=1e4)
    assert seen.reached_share["middle"] == 0.0
    assert 0 < seen.reached_share["big"] < 1
    assert seen.overhead == pytest.approx(1.0)
