"""The load generator: moments, rates, bounded duration, time limits, what it records."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.analysis.tally import Tally
from cascade.benchmarks.clients.lane import ANSWERED, CONNECTION, NOT_SENT, TIMEOUT
from cascade.benchmarks.generator.generator import Generator
from cascade.benchmarks.generator.precise_timer import PreciseTimer
from cascade.benchmarks.generator.processes import Sender, ThisProcess, plan_of
from cascade.benchmarks.load import ClosedLoop, OpenLoop, Trace
from cascade.benchmarks.workload import DifficultyMix, Picker, Workload
from cascade.errors import InputError


class FakeLane:
    """Answers after some seconds, never with ``None``, at once with 0; fails with another status."""

    def __init__(self, seconds=0.0, status=ANSWERED, answer=None):
        self.seconds, self.status, self.sent, self.timeouts, self.aborted = seconds, status, [], [], 0
        self.answer = answer or {"answer": [1], "stage": ["small"], "cost": [1.0], "policy_version": "v"}

    def send(self, request, done, timeout_s=None):
        self.sent.append(request)
        self.timeouts.append(timeout_s)
        content = self.answer if self.status == ANSWERED else "a reason"
        if self.seconds is not None:
            asyncio.get_running_loop().call_later(self.seconds, done, self.status, content)

    def abort(self):
        self.aborted += 1

    async def close(self):
        pass


def one_row_workload(n=20, label=1):
    return Workload.from_rows(np.arange(n)[:, None], np.full(n, label), 1)


def sent(load, lane=FakeLane, workload=None, timeout_s=5.0, mix=None):
    """(tally, lanes) of a load over fake lanes."""
    lanes = []
    workload = workload or one_row_workload()

    async def open_lanes(count):
        lanes.extend(lane() for _ in range(count))
        return lanes

    tally = Tally(load, workload, seed=1)
    ThisProcess(Sender(open_lanes, workload, mix, timeout_s)).run(load, 1, tally.add)
    return tally, lanes


def test_a_closed_loop_keeps_its_connections_busy_and_ends_in_time():
    begin = time.monotonic()
    tally, _ = sent(ClosedLoop(4, 0.5, warmup_seconds=0.1), lambda: FakeLane(0.01))
    assert time.monotonic() - begin < 10
    repeat = tally.repeat()
    assert (repeat.failed, repeat.send_lag, repeat.offered_per_s) == (0, None, None)
    assert 80 < repeat.requests_per_s <= 400
    assert repeat.rows == repeat.requests
    assert (repeat.accuracy, repeat.stage_share, repeat.policy_versions) == (1.0, {"small": 1.0}, ["v"])
    assert repeat.latency_ms["p50"] == pytest.approx(10, rel=0.5)


def test_a_timer_that_ends_early_does_not_begin_a_load_early(monkeypatch):
    """A request before the beginning would count nowhere."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0.9 * seconds))
    tally, _ = sent(ClosedLoop(2, 0.2), lambda: FakeLane(0.001))
    assert tally.records["due"].min() >= 0
    assert tally.repeat().requests == len(tally.records)


@pytest.mark.parametrize("load", [ClosedLoop(2, 0.2), OpenLoop(50, 0.2, arrivals="constant", connections=2)])
def test_a_process_that_was_paused_at_the_beginning_sends_all_of_a_closed_loop(load):
    """No request was sent, and the target was called dead."""
    workload, slices = one_row_workload(), []
    plan = plan_of(load, 5.0, seed=1)
    generator = Generator(plan, [FakeLane(0.001), FakeLane(0.001)], workload, Picker(workload, None, 1), slices.append)
    asyncio.run(generator.run(time.monotonic() - 1))
    statuses = np.concatenate([part.records["status"] for part in slices])
    late = ANSWERED if isinstance(load, ClosedLoop) else NOT_SENT  # an open loop never moves its arrivals
    assert len(statuses) >= 10
    assert (statuses == late).all()


def test_a_number_of_requests_ends_a_closed_loop():
    tally, lanes = sent(ClosedLoop(3, 60, max_requests=20), lambda: FakeLane(0.001))
    assert sum(len(lane.sent) for lane in lanes) == 20
    assert sorted(request for lane in lanes for request in lane.sent) == list(range(20))  # every batch once
    assert tally.repeat().requests == 20


@pytest.mark.parametrize("arrivals", ["constant", "poisson", "gamma"])
def test_an_open_loop_sends_at_its_rate_whatever_the_answers(arrivals):
    tally, _ = sent(OpenLoop(200, 1.0, arrivals=arrivals), lambda: FakeLane(0.2))
    repeat = tally.repeat()
    assert repeat.offered_per_s == pytest.approx(200, rel=0.5)
    assert repeat.requests + repeat.failed == round(repeat.offered_per_s)
    assert repeat.send_lag.p50_ms < 20


def test_a_request_that_waits_for_a_connection_counts_from_the_moment_when_it_was_due():
    tally, _ = sent(OpenLoop(100, 0.5, arrivals="constant", connections=1), lambda: FakeLane(0.02))
    answered = tally.records[tally.records["status"] == ANSWERED]
    latency = answered["done"] - answered["due"]
    assert latency[-1] > 0.15  # a queue grows: 100 are due per second and 50 are answered
    assert (answered["handled"] - answered["due"]).max() < 0.1  # which is not the client's fault


def test_a_load_that_cannot_be_sent_ends_with_its_time_and_names_what_was_not_sent():
    begin = time.monotonic()
    tally, _ = sent(OpenLoop(20_000, 0.5, connections=1), lambda: FakeLane(0.01))
    assert time.monotonic() - begin < 10
    repeat = tally.repeat()
    assert repeat.errors["not sent"] > 5000
    assert repeat.failed_share > 0.9
    assert np.count_nonzero(tally.records["status"] == NOT_SENT) + repeat.requests == len(tally.records)


def test_a_target_that_hangs_ends_with_the_time_limit():
    begin = time.monotonic()
    tally, lanes = sent(ClosedLoop(2, 0.2), lambda: FakeLane(None), timeout_s=0.3)
    assert time.monotonic() - begin < 10
    assert tally.repeat().errors == {"timeout": 2}
    assert all(lane.aborted for lane in lanes)
    assert set(tally.records["status"]) == {TIMEOUT}


def test_a_refused_connection_is_not_tried_thousands_of_times_a_second():
    tally, _ = sent(ClosedLoop(1, 0.5), lambda: FakeLane(0.0, CONNECTION))
    assert 1 <= len(tally.records) <= 12
    assert tally.repeat().messages == {"connection": "a reason"}


def test_a_pause_of_the_target_counts_for_every_request_that_was_due_in_it():
    """Which a closed loop hides ("coordinated omission")."""

    class Pausing(FakeLane):
        def send(self, request, done, timeout_s=None):
            now = asyncio.get_running_loop().time()
            first.append(now)
            wait = max(0.0, first[0] + 1.3 - now) if now > first[0] + 0.3 else 0.0
            asyncio.get_running_loop().call_later(wait, done, ANSWERED, self.answer)

    first = []
    tally, _ = sent(OpenLoop(100, 2.0, arrivals="constant"), Pausing)
    repeat = tally.repeat()
    assert repeat.latency_ms["max"] >= 950
    assert repeat.latency_ms["p90"] > 300
    first.clear()
    closed, _ = sent(ClosedLoop(1, 2.0), Pausing)
    assert closed.repeat().latency_ms["p90"] < 100


def test_the_timer_is_more_precise_than_the_loops():
    late = []

    async def main():
        ended = asyncio.Event()

        def fire():
            late.append(time.monotonic() - due[0])
            if len(late) == 50:
                ended.set()
            else:
                due[0] = time.monotonic() + 0.0023
                timer.set(due[0])

        due = [time.monotonic()]
        timer = PreciseTimer(fire)
        timer.set(due[0])
        await ended.wait()
        timer.close()
        timer.close()

    asyncio.run(main())
    assert min(late) >= 0
    assert np.median(late) < 2e-4


@given(st.integers(1, 7), st.sampled_from(["constant", "poisson", "gamma"]))
def test_processes_share_the_arrivals_without_loss(parts, arrivals):
    load = OpenLoop(300, 1.0, 0.5, arrivals=arrivals)
    plans = [plan_of(load, 1.0, 3, part, parts) for part in range(parts)]
    assert np.array_equal(np.sort(np.concatenate([plan.due for plan in plans])), load.due(3))
    assert sorted(np.concatenate([plan.order for plan in plans])) == list(range(len(load.due(3))))


@pytest.mark.parametrize("arrivals", ["constant", "poisson", "gamma"])
def test_arrivals_have_their_rate_and_follow_their_seed(arrivals):
    load = OpenLoop(1000, 20.0, arrivals=arrivals, burstiness=3.0)
    due = load.due(1)
    assert len(due) == pytest.approx(20_000, rel=0.1)
    assert (np.diff(due) >= 0).all()
    assert due[-1] < 20
    assert np.array_equal(due, load.due(1))
    assert arrivals == "constant" or not np.array_equal(due, load.due(2))
    variation = np.diff(due).std() / np.diff(due).mean()
    assert variation == pytest.approx({"constant": 0, "poisson": 1, "gamma": 3}[arrivals], abs=0.25)


def test_more_arrivals_than_fit_into_memory_are_refused():
    with pytest.raises(InputError, match="more than 20,000,000 requests"):
        OpenLoop(1e9, 10.0).due(0)


@pytest.mark.parametrize("degraded", [False, True])
def test_degraded_answers_and_different_ones_are_counted(degraded):
    answer = {"answer": [1], "stage": ["small"], "cost": [1.0], "degraded": [degraded]}
    repeat = sent(ClosedLoop(1, 0.2), lambda: FakeLane(0.01, answer=answer))[0].repeat()
    assert (repeat.degraded, repeat.different_answers) == (degraded, 1)


def trace(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return Trace.load(path)


def test_a_trace_is_sent_as_recorded(tmp_path):
    load = trace(tmp_path, "time_s,rows,deadline_ms\n5,1,\n5.1,3,1000\n5.2,1,0.001\n").faster(2)
    assert load.due_s == pytest.approx([0, 0.05, 0.1])
    workload = Workload.from_rows(np.arange(20)[:, None], np.ones(20, dtype=int), load.rows.tolist())

    class Sized(FakeLane):
        def send(self, request, done, timeout_s=None):
            n = len(workload.batches[request])
            content = {"answer": [1] * n, "stage": ["small"] * n, "cost": [1.0] * n}
            self.sent.append(n)
            asyncio.get_running_loop().call_later(0.002, done, ANSWERED, content)

    tally, lanes = sent(load, Sized, workload)
    assert sorted(n for lane in lanes for n in lane.sent) == [1, 1, 3]
    repeat = tally.repeat()
    assert (repeat.requests, repeat.rows) == (3, 5)
    assert repeat.goodput_per_s * repeat.seconds == pytest.approx(2)  # one was late


def test_the_target_is_told_the_time_that_is_left_and_late_requests_are_not_sent(tmp_path):
    load = trace(tmp_path, "time_s,deadline_ms\n0,900\n0,900\n0,150\n0.4,\n")
    tally, (lane,) = sent(replace(load, connections=1), lambda: FakeLane(0.2))
    assert lane.timeouts == [pytest.approx(0.9, abs=0.1), pytest.approx(0.7, abs=0.1), None]
    repeat = tally.repeat()
    assert (repeat.requests, repeat.errors) == (3, {"not sent": 1})
    assert repeat.messages == {"not sent": "its deadline passed before a connection was free"}
    assert repeat.goodput_per_s * repeat.seconds == pytest.approx(3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "header"),
        ("a,b\n1,2\n", "header with 'time_s'"),
        ("time_s\n", "no requests"),
        ("time_s\n2\n1\n", "line 3: 1 s comes after 2 s"),
        ("time_s\nsoon\n", "line 2: could not convert"),
        ("time_s\ninf\n", "line 2: time_s must be finite"),
        ("time_s,rows\n1,0\n2,-1\n", "line 2: time_s must be finite, rows at least 1"),
        ("time_s,deadline_ms\n1,0\n", "line 2: .*deadline_ms above 0"),
    ],
)
def test_a_broken_trace_names_the_line(tmp_path, text, problem):
    with pytest.raises(InputError, match=problem):
        trace(tmp_path, text)


def test_all_rows_are_cut_into_batches_of_one_size():
    workload = Workload.from_rows(np.arange(10)[:, None], np.arange(10), 4)
    assert [len(batch) for batch in workload.batches] == [4, 4, 4]
    assert {int(row) for batch in workload.batches for row in batch.rows[:, 0]} == set(range(10))
    assert all((batch.rows[:, 0] == batch.label).all() for batch in workload.batches)


@pytest.mark.parametrize("burst_s", [0.0, 0.5])
def test_a_difficulty_mix_has_its_share_of_hard_requests(burst_s):
    rows = np.arange(40)
    workload = Workload.from_rows(rows[:, None], None, 2, hard=rows >= 30)
    picker = Picker(workload, DifficultyMix(0.25, burst_s), seed=0)
    moments = np.linspace(0, 20, 4000, endpoint=False)
    hard = np.array([workload.hard[picker.next(moment)] for moment in moments])
    assert hard.mean() == pytest.approx(0.25, abs=0.03)
    runs = np.count_nonzero(np.diff(hard.astype(int)) == 1)
    assert runs == pytest.approx(10, abs=1) if burst_s else runs > 500
    for batch, is_hard in zip(workload.batches, workload.hard):
        assert ((batch.rows >= 30) == is_hard).all()


def test_a_mix_needs_both_kinds():
    with pytest.raises(InputError, match="all are easy"):
        Workload.from_rows(np.zeros((4, 1)), None, 1, hard=np.zeros(4, dtype=bool))


def test_orders_differ_between_seeds_and_hold_every_batch():
    workload = one_row_workload(30)
    first, again, other = (Picker(workload, None, seed) for seed in (1, 1, 2))
    orders = [[picker.next(0.0) for _ in range(30)] for picker in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(30)) for order in orders)
