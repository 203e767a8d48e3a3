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
from cascade.benchmarks import load, overhead
from cascade.benchmarks.benchmark import Benchmark
from cascade.benchmarks.in_process_target import InProcessTarget, LastStageTarget
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.overhead import CHUNK_BATCHES, measure_engine
from cascade.benchmarks.workload import Workload
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.errors import RowsError
from cascade.stage import Stage

STAGES = ("small", "big")
# The cheap stage answers half of the rows: a row costs 1 + 0.5 * 10 units, the big one alone 10.
SPEED_UP = 10 / 6


def ask(target, rows):
    async def main():
        await target.open()
        try:
            return await target.send(rows)
        finally:
            await target.close()

    return asyncio.run(main())


def test_the_engine_replies_what_the_cascade_answers(fake_cascade, labelled_rows):
    cascade, (rows, label) = fake_cascade(0.5), labelled_rows
    reply = ask(InProcessTarget(cascade), rows)
    assert reply.answer.tolist() == label.tolist()
    assert reply.stage.tolist() == [0] * 32 + [1] * 32
    assert reply.cost.tolist() == [1.0] * 32 + [11.0] * 32
    assert reply.policy_version == cascade.policy.version


def test_the_last_stage_alone_answers_every_row_at_its_own_cost(fake_cascade, labelled_rows):
    cascade, (rows, label) = fake_cascade(0.5), labelled_rows
    reply = ask(LastStageTarget(cascade), rows)
    assert (reply.answer == label).all()
    assert set(reply.stage.tolist()) == {1}
    assert set(reply.cost.tolist()) == {10.0}
    assert cascade.stages[0].backend.batches == []


def test_what_the_cascade_raises_is_not_counted_as_a_failed_request(fake_cascade):
    cascade = fake_cascade(0.5)
    cascade.stages[0].backend.predict = lambda rows: (_ for _ in ()).throw(RowsError("bad rows"))
    workload = Workload.from_rows(np.zeros((4, 1)), None, 2)
    with pytest.raises(RowsError, match="bad rows"):
        asyncio.run(Benchmark(ClosedLoop(2, 30), workload, STAGES, 1).run_in_process(cascade))


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
    benchmark = Benchmark(ClosedLoop(4, 0.1), Workload.from_rows(*labelled_rows, 8), STAGES, 1)
    asyncio.run(benchmark.run(InProcessTarget(cascade)))
    assert most[0] == 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the models' sleep moves on."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(fake_backend, "time", types.SimpleNamespace(sleep=sleep))
    for module in (load, overhead):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
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


@pytest.mark.usefixtures("clock")
def test_a_benchmark_in_process_measures_engine_and_last_stage(fake_cascade, labelled_rows):
    cascade = fake_cascade(0.5, (3e-4, 3e-3))
    workload = Workload.from_rows(*labelled_rows, 32)
    done = []
    benchmark = Benchmark(ClosedLoop(1, 20.0), workload, STAGES, repeats=2)
    repeats = asyncio.run(benchmark.run_in_process(cascade, biggest_alone=True, on_repeat=done.append))
    assert done == [1, 2]
    for repeat in repeats:
        assert repeat["engine"]["overhead"] == pytest.approx(1.0)
        assert repeat["engine"]["engine_only"] == pytest.approx(1.0)
        # A run ends somewhere in the rows, which are not all alike.
        assert repeat["engine"]["biggest_ratio"] == pytest.approx(SPEED_UP, rel=0.02)
        assert repeat["against_biggest"]["rows_per_s_ratio"] == pytest.approx(SPEED_UP, rel=0.02)
        assert repeat["against_biggest"]["accuracy_difference"] == 0.0
        assert repeat["biggest_alone"]["stage_share"] == {"small": 0.0, "big": 1.0}
        assert repeat["biggest_alone"]["mean_cost"] == 10.0
        assert repeat["mean_cost"] == pytest.approx(6.0, rel=0.02)


def test_the_last_stage_alone_is_measured_by_turns(fake_cascade, labelled_rows, monkeypatch):
    turns = []

    class Noted(ClosedLoop):
        async def run(self, target, workload, stages):
            turns.append(type(target))
            return await super().run(target, workload, stages)

    benchmark = Benchmark(Noted(1, 0.01), Workload.from_rows(*labelled_rows, 64), STAGES, repeats=3)
    asyncio.run(benchmark.run_in_process(fake_cascade(0.5), biggest_alone=True))
    first = (InProcessTarget, LastStageTarget)
    assert tuple(turns) == first + first[::-1] + first
    turns.clear()
    (repeat, *_) = asyncio.run(benchmark.run_in_process(fake_cascade(0.5)))
    assert turns == [InProcessTarget] * 3
    assert not {"biggest_alone", "against_biggest"} & set(repeat)


def test_rows_that_skip_a_stage_do_not_count_as_having_reached_it(clock, fake_cascade, labelled_rows):
    small, big = fake_cascade(0.5, (1.0, 10.0)).stages
    middle = Stage("middle", FakeBackend(big.backend.probabilities, 3.0))
    names = ("small", "middle", "big")
    policy = replace(Policy.from_thresholds(names, np.array([0.8, 1.0])), defer_below=np.array([0.5, 0.0]))
    seen = measure_engine(Cascade([small, middle, big], policy), Workload.from_rows(*labelled_rows, 8), seconds=1e4)
    assert seen.reached_share["middle"] == 0.0
    assert 0 < seen.reached_share["big"] < 1
    assert seen.overhead == pytest.approx(1.0)
