"""The workload, the closed loop and the open one."""

import asyncio
import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.load import FAILURE_PAUSE_S, ClosedLoop, OpenLoop, arrivals
from cascade.benchmarks.workload import Workload

LONG = 30.0  # a deadline that a test never sees


@given(st.integers(1, 60), st.integers(1, 25), st.booleans())
def test_a_workload_holds_every_row_in_batches_of_one_size(n, size, labelled):
    rows = np.arange(2 * n, dtype=np.int32).reshape(n, 2)
    workload = Workload.from_rows(rows, 5 * np.arange(n) if labelled else None, size)
    assert {len(batch) for batch in workload.batches} == {size} == {workload.rows_per_request}
    assert all(batch.rows.flags.c_contiguous and batch.rows.dtype == np.int32 for batch in workload.batches)
    sent = np.concatenate([batch.rows for batch in workload.batches])
    assert sorted(sent[:n, 0].tolist()) == rows[:, 0].tolist()
    assert sent[n:].tolist() == np.resize(sent[:n], (len(sent) - n, 2)).tolist()  # filled up with the first ones
    assert len(sent) - n < size
    for batch in workload.batches:
        assert (batch.label is None) == (not labelled)
        assert not labelled or (batch.label == 5 * batch.rows[:, 0] // 2).all()


def test_a_workload_is_shuffled_always_in_the_same_way_and_never_ends():
    rows = np.arange(100)[:, None]
    first, second = (Workload.from_rows(rows, rows[:, 0], 10) for _ in range(2))
    assert [b.rows.tolist() for b in first.batches] == [b.rows.tolist() for b in second.batches]
    # Sorted by class, a batch would hold one tenth of the classes.
    assert all(np.ptp(batch.rows) > 40 for batch in first.batches)
    assert list(itertools.islice(first.endless(), 25)) == list(first.batches * 3)[:25]


def test_texts_are_a_workload_too():
    rows = np.array(["a", "bb", "ccc"], dtype=object)
    (batch,) = Workload.from_rows(rows, None, 3).batches
    assert sorted(batch.rows) == ["a", "bb", "ccc"]


@pytest.fixture
def workload(labelled_rows):
    return Workload.from_rows(*labelled_rows, 6)


def load(target, workload, connections=1, seconds=LONG, **options):
    return asyncio.run(ClosedLoop(connections, seconds, **options).run(target, workload, ("small", "big")))


def is_begin_of(sent, workload):
    return all(rows is batch.rows for rows, batch in zip(sent, workload.endless()))


async def answer_at_once(index):
    await asyncio.sleep(0)


@pytest.mark.parametrize("connections", [1, 3, 8])
@pytest.mark.parametrize("most", [1, 7, 40])
def test_all_workers_together_send_exactly_as_many_requests_as_allowed(function_target, workload, connections, most):
    target = function_target(answer_at_once)
    seen = load(target, workload, connections, max_requests=most)
    assert (len(target.sent), seen.requests, seen.rows) == (most, most, 6 * most)
    assert target.most_at_a_time == min(connections, most)
    assert is_begin_of(target.sent, workload)
    assert (seen.accuracy, seen.stage_share, seen.mean_cost) == (1.0, {"small": 1.0, "big": 0.0}, 1.0)


def test_failures_are_counted_by_status_and_the_load_goes_on(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0)
        if index % 3 == 0:
            raise RequestFailed("503", "busy")
        if index % 5 == 0:
            raise RequestFailed("timeout")

    seen = load(function_target(behave), workload, connections=4, max_requests=30)
    assert seen.errors == {"503": 10, "timeout": 4}
    assert (seen.failed, seen.requests, seen.rows) == (14, 16, 96)


def test_the_load_ends_after_its_seconds(function_target, workload):
    begins = []

    async def behave(index):
        begins.append(time.perf_counter())
        await asyncio.sleep(0.02)

    target = function_target(behave)
    seen = load(target, workload, connections=2, seconds=0.25)
    assert begins[-1] - begins[0] < 0.3
    assert 0.25 <= seen.seconds < 2.0
    assert seen.requests == len(begins)  # also those that were under way at the end
    # At most as many as fit into the time one after the other, for each worker.
    assert 4 <= seen.requests <= 2 * 13
    assert seen.latency_ms["p50"] >= 20


def test_a_request_that_outlives_the_deadline_is_waited_for_and_counted(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0.2)

    seen = load(function_target(behave), workload, connections=3, seconds=0.02)
    assert seen.requests == 3
    assert seen.seconds >= 0.2


def test_a_warm_up_is_not_counted_and_the_measured_part_begins_anew(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0.01)
        if index == 0:
            raise RequestFailed("503")

    target = function_target(behave)
    seen = load(target, workload, warmup_seconds=0.1, max_requests=4)
    assert (seen.requests, seen.failed) == (4, 0)
    warm = len(target.sent) - 4
    assert warm >= 2
    assert is_begin_of(target.sent[:warm], workload)
    assert is_begin_of(target.sent[warm:], workload)


def test_where_nothing_is_answered_one_error_says_what_was_seen(function_target, workload):
    async def behave(index):
        raise RequestFailed("503", "the queue is full")

    target = function_target(behave)
    with pytest.raises(TargetError, match=r"no request was answered \(\d+ x 503: the queue is full\)"):
        load(target, workload, seconds=0.1)
    assert 1 <= len(target.sent) <= 0.1 / FAILURE_PAUSE_S + 1  # not in a tight loop


def test_nonsense_ends_the_load_and_what_was_under_way(function_target, workload):
    cancelled = []

    async def behave(index):
        if index == 2:
            raise TargetError("invalid")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(index)
            raise

    with pytest.raises(TargetError, match="invalid"):
        load(function_target(behave), workload, connections=4)
    assert sorted(cancelled) == [0, 1, 3]


def open_load(target, workload, rate, seconds, **options):
    return asyncio.run(OpenLoop(rate, seconds, **options).run(target, workload, ("small", "big")))


@given(st.floats(0.01, 500), st.floats(0.001, 4), st.integers(0, 2**32))
def test_arrivals_come_in_order_and_in_time(rate, seconds, seed):
    due = arrivals(rate, seconds, np.random.default_rng(seed))
    assert len(due) >= 1
    assert (np.diff(due) >= 0).all()
    assert (due >= 0).all()
    assert (due < seconds).all()


def test_arrivals_are_a_poisson_process():
    rate, seconds = 1000.0, 200.0
    due = arrivals(rate, seconds, np.random.default_rng(0))
    gaps = np.diff(due)
    # Exponential: mean and standard deviation are equal, and a share 1 / e of the gaps is above the mean.
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.02)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.02)
    assert (gaps > 1 / rate).mean() == pytest.approx(np.exp(-1), abs=0.01)
    # Counts in windows: variance and mean are equal, and windows are independent.
    counts = np.histogram(due, bins=np.arange(0, seconds + 0.1, 0.1))[0]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(counts[:-1], counts[1:])[0, 1]) < 0.1


def test_an_open_loop_does_not_wait_for_answers(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0.2)

    target = function_target(behave)
    seen = open_load(target, workload, rate=200, seconds=0.4)
    assert (seen.requests, seen.failed) == (len(target.sent), 0)
    assert 40 <= seen.requests <= 120
    assert target.most_at_a_time > 15  # 40 are due while the first is under way
    assert is_begin_of(target.sent, workload)


def test_a_stall_is_charged_to_every_request_that_was_due_in_it(function_target, workload):
    async def behave(index):
        if index == 5:
            time.sleep(0.4)  # the whole process stands still

    seen = open_load(function_target(behave), workload, rate=500, seconds=0.8)
    # A closed loop would have seen one slow request. Half of the requests were due in the stall; of these half
    # waited longer than half of it.
    assert seen.latency_ms["max"] >= 400
    assert seen.latency_ms["p95"] > 250


def test_an_open_loop_sends_no_more_than_may_be_under_way(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0.3)

    target = function_target(behave)
    seen = open_load(target, workload, rate=300, seconds=0.2, most_under_way=7)
    assert (seen.requests, target.most_at_a_time) == (7, 7)
    assert seen.errors == {"not sent": seen.failed}
    assert seen.failed > 10


def test_an_open_loop_counts_failures_and_leaves_the_warm_up_out(function_target, workload):
    async def behave(index):
        await asyncio.sleep(0)
        if index % 2 == 0:
            raise RequestFailed("503", "busy")

    target = function_target(behave)
    seen = open_load(target, workload, rate=300, seconds=0.2, warmup_seconds=0.2)
    assert seen.errors == {"503": seen.failed}
    assert 20 < seen.requests + seen.failed < len(target.sent) - 20


def test_nonsense_ends_an_open_loop_and_what_was_under_way(function_target, workload):
    cancelled = []

    async def behave(index):
        if index == 2:
            raise TargetError("invalid")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(index)
            raise

    begin = time.perf_counter()
    with pytest.raises(TargetError, match="invalid"):
        open_load(function_target(behave), workload, rate=200, seconds=LONG)
    assert time.perf_counter() - begin < LONG / 2
    assert {0, 1} <= set(cancelled)


def test_an_open_loop_without_answers_says_what_was_seen(function_target, workload):
    async def behave(index):
        raise RequestFailed("503", "the queue is full")

    with pytest.raises(TargetError, match=r"no request was answered \(\d+ x 503: the queue is full\)"):
        open_load(function_target(behave), workload, rate=100, seconds=0.1)
