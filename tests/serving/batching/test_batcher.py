"""Micro-batches: order, splitting, forwarding, failures, bounds."""

import asyncio
import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.answers import PENDING, Answers
from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.errors import RowsError
from cascade.prediction import Prediction
from cascade.routers import Evidence
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import DeadlineExceeded, Overloaded, StageFailed, Unavailable, http_status
from cascade.stage import Stage

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.5]))


def say(rows, sure):
    """Answers every row with its own number; stage 0 where it is sure, else pending."""
    n = len(rows)
    return Answers(rows.copy(), np.where(sure, 0, PENDING), np.ones(n), np.ones(n))


class Recorder:
    """Runs batches, and remembers their sizes; odd rows are unsure."""

    def __init__(self, sure=lambda rows: rows % 2 == 0):
        self.sizes, self.forwarded, self.sure = [], [], sure

    def run(self, rows, policy, evidence, last_stage=None):
        self.sizes.append(len(rows))
        return say(rows, self.sure(rows))

    async def forward(self, rows, policy, evidence, timeout_s, last_stage=None):
        self.forwarded.append(rows)
        await asyncio.sleep(0)
        return Answers(rows.copy(), np.full(len(rows), 1), np.ones(len(rows)), np.full(len(rows), 10.0))


def new_batcher(recorder, max_batch_rows=8, max_queue_rows=10_000, forward=True, **options):
    return Batcher(
        single_step(recorder.run),
        recorder.forward if forward else None,
        BatcherOptions(max_batch_rows, max_queue_rows, **options),
    )


async def busy_batcher():
    """A batcher for 8 waiting rows, its task for 4 rows, which runs, and the event that lets it end."""
    release = threading.Event()

    def run(rows, policy, evidence, last_stage=None):
        release.wait(5)
        return say(rows, np.ones(len(rows), dtype=bool))

    batcher = Batcher(single_step(run), None, BatcherOptions(4, 8))
    running = asyncio.create_task(batcher.answer(np.arange(4), POLICY))
    await asyncio.sleep(0.05)
    return batcher, running, release


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 16), st.sampled_from([0.0, 1.0]))
def test_every_caller_gets_its_own_rows_in_order(sizes, max_batch_rows, max_inline_s):
    recorder = Recorder()
    calls = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

    async def main():
        batcher = new_batcher(recorder, max_batch_rows, max_inline_s=max_inline_s)
        found = await asyncio.gather(*(batcher.answer(rows, POLICY) for rows in calls))
        batcher.close()
        return found

    for rows, answers in zip(calls, asyncio.run(main()), strict=True):
        assert answers.answer.tolist() == rows.tolist()
        assert answers.stage.tolist() == (rows % 2).tolist()
        assert answers.cost.tolist() == np.where(rows % 2, 11.0, 1.0).tolist()
    assert max(recorder.sizes) <= max_batch_rows
    assert sum(recorder.sizes) == sum(sizes)


def test_batches_expected_to_be_quick_run_in_the_event_loop_which_does_other_work_between_them():
    ran_in, turns = [], []

    def run(rows, policy, evidence, last_stage=None):
        if rows[0] == 99:
            time.sleep(0.05)
        ran_in.append(threading.current_thread() is threading.main_thread())
        turns.append(len(ticks))
        return say(rows, np.ones(len(rows), dtype=bool))

    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def main():
        ticking = asyncio.create_task(tick())
        batcher = Batcher(single_step(run), None, BatcherOptions(1, 100, max_inline_s=0.002))
        await asyncio.gather(*(batcher.answer(np.array([row]), POLICY) for row in [*range(20), 99, *range(6)]))
        ticking.cancel()
        batcher.close()

    asyncio.run(main())
    inline = np.array(ran_in)
    assert not inline[:4].any()  # not measured yet
    assert inline[12:21].all()
    assert not inline[21:24].any()  # one took far too long
    assert np.diff(turns).min() > 0


def test_without_a_limit_every_batch_runs_in_a_thread():
    names = set()

    def run(rows, policy, evidence, last_stage=None):
        names.add(threading.current_thread().name)
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(single_step(run), None, BatcherOptions(1, 100))
        await asyncio.gather(*(batcher.answer(np.array([row]), POLICY) for row in range(20)))
        batcher.close()

    asyncio.run(main())
    assert names == {"segment_0"}


def test_the_deferred_rows_of_a_batch_travel_as_one_contiguous_array():
    recorder = Recorder()

    async def main():
        batcher = new_batcher(recorder, max_batch_rows=64)
        # The first call runs alone; the others wait for it, and then share a batch.
        await asyncio.gather(*(batcher.answer(np.arange(4) + 4 * i, POLICY) for i in range(6)))
        batcher.close()

    asyncio.run(main())
    assert len(recorder.forwarded) == len(recorder.sizes) < 6
    assert all(rows.flags["C_CONTIGUOUS"] for rows in recorder.forwarded)
    assert sorted(np.concatenate(recorder.forwarded).tolist()) == list(range(1, 24, 2))


def test_accepted_rows_do_not_wait_for_the_deferred_rows_of_their_batch():
    gate = asyncio.Event()

    async def main():
        async def slow_forward(rows, policy, evidence, timeout_s, last_stage=None):
            await gate.wait()
            return Answers(rows, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

        batcher = Batcher(single_step(Recorder().run), slow_forward, BatcherOptions(8, 100))
        unsure = asyncio.create_task(batcher.answer(np.array([1]), POLICY))
        sure = asyncio.create_task(batcher.answer(np.array([2]), POLICY))
        assert (await asyncio.wait_for(sure, 5)).stage.tolist() == [0]
        assert not unsure.done()
        gate.set()
        assert (await asyncio.wait_for(unsure, 5)).stage.tolist() == [1]
        batcher.close()

    asyncio.run(main())


def test_a_batch_holds_rows_of_one_policy_and_mixed_arrivals_do_not_split_it():
    seen = []

    def run(rows, policy, evidence, last_stage=None):
        seen.append((policy.version, len(rows)))
        return say(rows, np.ones(len(rows), dtype=bool))

    other = Policy.from_thresholds(("small", "big"), np.array([0.7]))

    async def main():
        batcher = Batcher(single_step(run), None, BatcherOptions(64, 100))
        await asyncio.gather(*(batcher.answer(np.arange(2), POLICY if i % 2 else other) for i in range(6)))
        batcher.close()

    asyncio.run(main())
    assert seen == [(other.version, 6), (POLICY.version, 6)]


def test_only_the_rows_at_fault_are_refused():
    def run(rows, policy, evidence, last_stage=None):
        if (rows == 13).any():
            raise ValueError("unlucky")
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(single_step(run), None, BatcherOptions(64, 100))
        found = await asyncio.gather(
            *(batcher.answer(np.array([i]), POLICY) for i in range(10, 16)), return_exceptions=True
        )
        batcher.close()
        return found

    found = asyncio.run(main())
    assert isinstance(found[3], StageFailed)
    assert isinstance(found[3].__cause__, ValueError)
    assert [answers.answer.tolist() for i, answers in enumerate(found) if i != 3] == [[10], [11], [12], [14], [15]]


def test_a_failed_later_segment_fails_the_callers_of_deferred_rows_only():
    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        raise RuntimeError("gone")

    async def main():
        batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(64, 100))
        found = await asyncio.gather(*(batcher.answer(np.array([i]), POLICY) for i in range(4)), return_exceptions=True)
        batcher.close()
        return found

    found = asyncio.run(main())
    assert [isinstance(each, StageFailed) for each in found] == [False, True, False, True]


def test_rows_beyond_the_queue_are_refused_at_once_until_there_is_room():
    async def main():
        batcher, running, release = await busy_batcher()
        waiting = asyncio.create_task(batcher.answer(np.arange(8), POLICY))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="8 rows are waiting"):
            await batcher.answer(np.arange(1), POLICY)
        release.set()
        await asyncio.gather(running, waiting)
        assert len(await batcher.answer(np.arange(8), POLICY)) == 8
        batcher.close()

    asyncio.run(main())


def test_cancelled_callers_leave_no_rows_in_the_queue():
    async def main():
        batcher, running, release = await busy_batcher()
        gone = asyncio.create_task(batcher.answer(np.arange(8), POLICY))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        release.set()
        await running
        assert len(await asyncio.wait_for(batcher.answer(np.arange(8), POLICY), 5)) == 8
        batcher.close()

    asyncio.run(main())


def test_evidence_travels_with_the_deferred_rows_through_split_and_joined_batches():
    seen = []

    def first(rows, policy, evidence, last_stage=None):
        assert evidence is None
        answers = say(rows, rows % 3 == 0)
        unsure = rows[answers.stage == PENDING]
        return replace(answers, evidence=Evidence(np.stack([unsure, -unsure], axis=1).astype(float)))

    def second(rows, policy, evidence, last_stage=None):
        seen.append(len(rows))
        np.testing.assert_array_equal(evidence.stages, np.stack([rows, -rows], axis=1))
        answers = Answers(rows.copy(), np.where(rows % 3 == 1, 1, PENDING), np.ones(len(rows)), np.ones(len(rows)))
        pending = answers.stage == PENDING
        return replace(answers, evidence=Evidence(np.tile(evidence.stages, 2)[pending]))

    def third(rows, policy, evidence, last_stage=None):
        np.testing.assert_array_equal(evidence.stages, np.stack([rows, -rows, rows, -rows], axis=1))
        return Answers(rows.copy(), np.full(len(rows), 2), np.ones(len(rows)), np.ones(len(rows)))

    async def main():
        last = Batcher(single_step(third), None, BatcherOptions(3, 1000))
        middle = Batcher(single_step(second), last.answer, BatcherOptions(5, 1000))
        gateway = Batcher(single_step(first), middle.answer, BatcherOptions(16, 1000))
        calls = np.split(np.arange(100), [1, 2, 40, 50, 75])
        found = await asyncio.gather(*(gateway.answer(rows, POLICY) for rows in calls))
        for batcher in (gateway, middle, last):
            batcher.close()
        return found

    found = asyncio.run(main())
    assert np.concatenate([answers.answer for answers in found]).tolist() == list(range(100))
    assert np.concatenate([answers.stage for answers in found]).tolist() == [i % 3 for i in range(100)]
    assert all(answers.evidence is None for answers in found)
    assert max(seen) > 1


def test_the_pieces_of_a_failed_batch_keep_their_evidence():
    def run(rows, policy, evidence, last_stage=None):
        np.testing.assert_array_equal(evidence.stages[:, 0], rows)
        if (rows == 13).any():
            raise ValueError("unlucky")
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(single_step(run), None, BatcherOptions(64, 100))
        calls = [np.array([i]) for i in range(10, 16)]
        found = await asyncio.gather(
            *(batcher.answer(rows, POLICY, Evidence(rows[:, None].astype(float))) for rows in calls),
            return_exceptions=True,
        )
        batcher.close()
        return found

    found = asyncio.run(main())
    assert [isinstance(each, StageFailed) for each in found] == [i == 13 for i in range(10, 16)]


def sure_of_all(rows, policy, evidence, last_stage=None):
    return say(rows, np.ones(len(rows), dtype=bool))


async def hang(rows, policy, evidence, timeout_s, last_stage=None):
    await asyncio.Event().wait()


def degrading(run, forward, max_queue_rows=100, partial=False, fallback=0):
    return Batcher(single_step(run), forward, BatcherOptions(8, max_queue_rows, fallback=fallback, partial=partial))


def test_a_late_row_is_an_error_and_the_sure_rows_of_other_callers_are_not_late():
    async def main():
        batcher = Batcher(single_step(Recorder().run), hang, BatcherOptions(8, 100))
        found = await asyncio.gather(
            *(batcher.answer(np.array([i]), POLICY, timeout_s=0.1) for i in range(4)), return_exceptions=True
        )
        assert len(await batcher.answer(np.array([2]), POLICY, timeout_s=5)) == 1
        batcher.close()
        return found

    found = asyncio.run(main())
    assert [isinstance(each, DeadlineExceeded) for each in found] == [False, True, False, True]
    assert "0.1 s" in str(found[1])


def test_a_late_row_falls_back_to_the_answer_so_far_and_only_it_is_degraded():
    async def main():
        batcher = degrading(Recorder().run, hang)
        found = await batcher.answer(np.arange(5), POLICY, timeout_s=0.1)
        batcher.close()
        return found

    found = asyncio.run(main())
    assert found.answer.tolist() == list(range(5))
    assert found.stage.tolist() == [0] * 5
    assert found.degraded.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("error", [RuntimeError("broken"), Unavailable("gone"), Overloaded("full")])
def test_if_a_later_segment_fails_the_answer_so_far_is_returned_at_once(error):
    async def fail(rows, policy, evidence, timeout_s, last_stage=None):
        raise error

    async def main():
        batcher = degrading(Recorder().run, fail)
        found = await asyncio.wait_for(batcher.answer(np.arange(4), POLICY, timeout_s=60), 5)
        batcher.close()
        return found

    assert asyncio.run(main()).degraded.tolist() == [False, True, False, True]


def test_rows_on_which_no_stage_has_run_are_an_error_even_with_a_fallback():
    release = threading.Event()

    def run(rows, policy, evidence, last_stage=None):
        release.wait(5)
        return say(rows, np.zeros(len(rows), dtype=bool))

    async def main():
        batcher = degrading(run, hang)
        with pytest.raises(DeadlineExceeded):
            await batcher.answer(np.arange(3), POLICY, timeout_s=0.05)
        release.set()
        batcher.close()

    asyncio.run(main())


def test_a_segment_returns_partial_answers_and_the_one_before_falls_back_for_the_rest():
    async def main():
        first_batch = threading.Event()

        def slow_second(rows, policy, evidence, last_stage=None):
            if first_batch.is_set():
                threading.Event().wait(0.5)
            first_batch.set()
            return Answers(rows + 100, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

        second = Batcher(single_step(slow_second), None, BatcherOptions(4, 100, fallback=1, partial=True))

        async def forward(rows, policy, evidence, timeout_s, last_stage=None):
            return await second.answer(rows, policy, evidence, timeout_s, last_stage)

        first = degrading(
            lambda rows, policy, evidence, last_stage: say(rows, np.zeros(len(rows), dtype=bool)), forward
        )
        found = await first.answer(np.arange(8), POLICY, timeout_s=0.2)
        first.close()
        second.close()
        return found

    found = asyncio.run(main())
    assert found.stage.tolist() == [1] * 4 + [0] * 4
    assert found.answer.tolist() == [100, 101, 102, 103, 4, 5, 6, 7]
    assert found.degraded.tolist() == [False] * 4 + [True] * 4


def test_the_next_segment_receives_the_remaining_time():
    left = []

    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        left.append(timeout_s)
        return Answers(rows, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

    async def main():
        for fallback in (None, 0):
            batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(8, 100, fallback=fallback))
            # The last of the callers counts: the first one's rows are in the batch anyway.
            await asyncio.gather(*(batcher.answer(np.array([1]), POLICY, timeout_s=t) for t in (0.2, 10)))
            batcher.close()

    asyncio.run(main())
    assert 9.5 < left[0] <= 10
    assert 9 < left[1] < left[0]


def test_rows_whose_caller_is_late_or_cancelled_are_never_run_and_make_room():
    seen, release = [], threading.Event()

    def run(rows, policy, evidence, last_stage=None):
        seen.extend(rows.tolist())
        release.wait(5)
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(single_step(run), None, BatcherOptions(1, 3))
        running = asyncio.create_task(batcher.answer(np.array([1]), POLICY))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(batcher.answer(np.array([2]), POLICY, timeout_s=0.05))
        gone = asyncio.create_task(batcher.answer(np.array([3, 3]), POLICY))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(DeadlineExceeded):
            await late
        # The stage still runs, and yet there is room again.
        waiting = asyncio.create_task(batcher.answer(np.array([4, 4, 4]), POLICY))
        await asyncio.sleep(0)
        assert not waiting.done()
        release.set()
        await asyncio.gather(running, waiting)
        batcher.close()

    asyncio.run(main())
    assert seen == [1, 4, 4, 4]


def test_a_call_of_the_next_segment_is_cancelled_once_all_its_callers_are():
    cancelled = []

    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(rows.tolist())
            raise

    async def main():
        batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(8, 100))
        first, second = (asyncio.create_task(batcher.answer(np.array([row]), POLICY)) for row in (1, 3))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.05)
        assert not cancelled
        second.cancel()
        await asyncio.sleep(0.05)
        batcher.close()

    asyncio.run(main())
    assert cancelled == [[1, 3]]


def test_a_later_replica_that_was_cancelled_does_not_leave_its_callers_waiting():
    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        raise asyncio.CancelledError

    async def main():
        batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(8, 100))
        with pytest.raises(Unavailable):
            await asyncio.wait_for(batcher.answer(np.array([1]), POLICY), 5)
        batcher.close()

    asyncio.run(main())


def test_rows_in_flight_to_the_next_segment_are_bounded():
    async def main():
        batcher = Batcher(single_step(Recorder().run), hang, BatcherOptions(8, 3))
        held = asyncio.create_task(batcher.answer(np.array([1, 3, 5]), POLICY, timeout_s=0.3))
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="3 rows wait for the next segment"):
            await batcher.answer(np.array([7]), POLICY)
        assert len(await batcher.answer(np.array([2]), POLICY)) == 1
        with pytest.raises(DeadlineExceeded):
            await held
        await asyncio.sleep(0)
        again = asyncio.create_task(batcher.answer(np.array([9]), POLICY, timeout_s=0.05))
        with pytest.raises(DeadlineExceeded):
            await again
        batcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("error", [StageFailed("unlucky"), RowsError("row 0 holds NaN")], ids=repr)
def test_a_stage_that_fails_downstream_refuses_only_the_callers_at_fault(error):
    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        if (rows == 13).any():
            raise error
        return Answers(rows, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

    async def main():
        batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(64, 100))
        found = await asyncio.gather(
            *(batcher.answer(np.array([i]), POLICY) for i in range(10, 18)), return_exceptions=True
        )
        batcher.close()
        return found

    assert [isinstance(each, type(error)) for each in asyncio.run(main())] == [i == 13 for i in range(10, 18)]


class Falls:
    """A model that fails in a given way if row 13 is in its batch."""

    def __init__(self, way):
        self.way = way

    def predict(self, rows):
        p = np.where(rows[:, 0] < 100, 0.9, 0.5)
        said = np.stack([p, 1 - p], axis=1)
        bad = rows[:, 0] == 13
        if bad.any():
            said = {
                "too few": lambda: said[~bad],
                "too many": lambda: np.concatenate([said, said[bad]]),
                "NaN": lambda: np.where(bad[:, None], np.nan, said),
                "logits": lambda: np.where(bad[:, None], 7.0, said),
                "raises": lambda: {}["secret"],
            }[self.way]()
        return Prediction.from_probabilities(said)


@pytest.mark.parametrize("way", ["too few", "too many", "NaN", "logits", "raises"])
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_a_broken_contract_fails_the_callers_at_fault_alike_in_every_segment(way, segments, caplog):
    """The last of three stages breaks it, in a process of its own or not; its error text reaches no caller."""
    unsure = FakeBackend(np.full((20, 2), 0.5))
    stages = [Stage("a", unsure), Stage("b", unsure), Stage("c", Falls(way))]
    policy = Policy.from_thresholds(("a", "b", "c"), np.array([0.9, 0.9]))
    cuts = {1: [0, 3], 2: [0, 2, 3], 3: [0, 1, 2, 3]}[segments]

    async def main():
        batchers, forward = [], None
        for first, end in reversed(list(itertools.pairwise(cuts))):
            batchers.append(
                Batcher(
                    single_step(Segment(stages[first:end], first).run),
                    forward,
                    BatcherOptions(64, 1000, partial=first > 0),
                )
            )
            forward = batchers[-1].answer
        calls = (forward(np.array([[i]]), policy) for i in range(5, 20))
        found = await asyncio.gather(*calls, return_exceptions=True)
        for batcher in batchers:
            batcher.close()
        return found

    for i, found in enumerate(asyncio.run(main()), 5):
        if i == 13:
            assert isinstance(found, StageFailed)
            assert (str(found), http_status(found)) == ("stage 'c' failed on these rows", 500)
        else:
            assert (found.answer.tolist(), found.stage.tolist()) == ([0], [2])
    records = [record for record in caplog.records if record.getMessage() == "a stage failed"]
    assert {record.stage for record in records} == {"c"}
    # What broke the contract is in the log; what a model raised may quote rows, and its text is not.
    assert all(hasattr(record, "problem") == (way != "raises") for record in records)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.02, 5.0]), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 9),
    st.sampled_from([None, 0]),
    st.sampled_from(["answer", "fail", "hang"]),
)
def test_every_call_ends_with_right_rows_or_an_error_and_no_rows_are_left(
    calls, max_batch_rows, fallback, next_segment
):
    """Callers of all sizes and deadlines, some of them cancelled; a later segment that answers, raises or hangs."""

    async def forward(rows, policy, evidence, timeout_s, last_stage=None):
        if next_segment == "fail":
            raise RuntimeError("broken")
        if next_segment == "hang":
            await asyncio.Event().wait()
        return Answers(rows, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

    async def main():
        batcher = Batcher(single_step(Recorder().run), forward, BatcherOptions(max_batch_rows, 1000, fallback=fallback))
        tasks = []
        for i, (size, timeout_s, leaves) in enumerate(calls):
            wait_s = min(timeout_s, 0.05) if next_segment == "hang" else timeout_s
            tasks.append(asyncio.create_task(batcher.answer(np.arange(size) + 100 * i, POLICY, timeout_s=wait_s)))
            if leaves:
                await asyncio.sleep(0)
                tasks[-1].cancel()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        await asyncio.sleep(0.01)
        assert batcher.is_idle
        batcher.close()
        return found

    for i, ((size, _, leaves), answers) in enumerate(zip(calls, asyncio.run(main()), strict=True)):
        if isinstance(answers, BaseException):
            assert leaves or isinstance(answers, DeadlineExceeded | StageFailed)
            continue
        rows = np.arange(size) + 100 * i
        assert answers.answer.tolist() == rows.tolist()
        degraded = np.zeros(size, dtype=bool) if answers.degraded is None else answers.degraded
        assert (answers.stage == np.where((rows % 2 == 1) & ~degraded, 1, 0)).all()
        assert not degraded[rows % 2 == 0].any()
        assert fallback is not None or not degraded.any()
