"""Micro-batches: order, splitting, forwarding, failures, bounds."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import Policy
from cascade.engine import PENDING, Answers
from cascade.serving.batcher import Batcher
from cascade.serving.errors import Overloaded, StageFailed

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.5]))


def say(rows, sure):
    """Answers every row with its own number; stage 0 where it is sure, else pending."""
    n = len(rows)
    return Answers(rows.copy(), np.where(sure, 0, PENDING), np.ones(n), np.ones(n))


class Recorder:
    """Runs batches, and remembers their sizes; odd rows are unsure."""

    def __init__(self, sure=lambda rows: rows % 2 == 0):
        self.sizes, self.forwarded, self.sure = [], [], sure

    def run(self, rows, policy, earlier):
        self.sizes.append(len(rows))
        return say(rows, self.sure(rows))

    async def forward(self, rows, policy, evidence):
        self.forwarded.append(rows)
        await asyncio.sleep(0)
        return Answers(rows.copy(), np.full(len(rows), 1), np.ones(len(rows)), np.full(len(rows), 10.0))


def new_batcher(recorder, max_batch_rows=8, max_queue_rows=10_000, forward=True):
    return Batcher(recorder.run, recorder.forward if forward else None, max_batch_rows, max_queue_rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 16))
def test_every_caller_gets_its_own_rows_in_order(sizes, max_batch_rows):
    recorder = Recorder()
    calls = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

    async def main():
        batcher = new_batcher(recorder, max_batch_rows)
        found = await asyncio.gather(*(batcher.answer(rows, POLICY) for rows in calls))
        batcher.close()
        return found

    for rows, answers in zip(calls, asyncio.run(main()), strict=True):
        assert answers.answer.tolist() == rows.tolist()
        assert answers.stage.tolist() == (rows % 2).tolist()
        assert answers.cost.tolist() == np.where(rows % 2, 11.0, 1.0).tolist()
    assert max(recorder.sizes) <= max_batch_rows
    assert sum(recorder.sizes) == sum(sizes)


def test_the_unsure_rows_of_a_batch_travel_as_one_contiguous_array():
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


def test_sure_rows_do_not_wait_for_the_forwarded_rows_of_their_batch():
    gate = asyncio.Event()

    async def main():
        async def slow_forward(rows, policy, evidence):
            await gate.wait()
            return Answers(rows, np.full(len(rows), 1), np.ones(len(rows)), np.ones(len(rows)))

        batcher = Batcher(Recorder().run, slow_forward, 8, 100)
        unsure = asyncio.create_task(batcher.answer(np.array([1]), POLICY))
        sure = asyncio.create_task(batcher.answer(np.array([2]), POLICY))
        assert (await asyncio.wait_for(sure, 5)).stage.tolist() == [0]
        assert not unsure.done()
        gate.set()
        assert (await asyncio.wait_for(unsure, 5)).stage.tolist() == [1]
        batcher.close()

    asyncio.run(main())


def test_a_batch_holds_rows_of_one_policy_only():
    seen = []

    def run(rows, policy, earlier):
        seen.append((policy.version, len(rows)))
        return say(rows, np.ones(len(rows), dtype=bool))

    other = Policy.from_thresholds(("small", "big"), np.array([0.7]))

    async def main():
        batcher = Batcher(run, None, 64, 100)
        await asyncio.gather(*(batcher.answer(np.arange(2), POLICY if i % 2 else other) for i in range(6)))
        batcher.close()

    asyncio.run(main())
    assert sum(rows for _, rows in seen) == 12
    assert {version for version, _ in seen} == {POLICY.version, other.version}
    assert all(rows == 2 for _, rows in seen)


def test_only_the_rows_at_fault_are_refused():
    def run(rows, policy, earlier):
        if (rows == 13).any():
            raise ValueError("unlucky")
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(run, None, 64, 100)
        found = await asyncio.gather(
            *(batcher.answer(np.array([i]), POLICY) for i in range(10, 16)), return_exceptions=True
        )
        batcher.close()
        return found

    found = asyncio.run(main())
    assert isinstance(found[3], StageFailed)
    assert isinstance(found[3].__cause__, ValueError)
    assert [answers.answer.tolist() for i, answers in enumerate(found) if i != 3] == [[10], [11], [12], [14], [15]]


def test_a_failed_later_segment_fails_the_forwarded_callers_only():
    async def forward(rows, policy, evidence):
        raise RuntimeError("gone")

    async def main():
        batcher = Batcher(Recorder().run, forward, 64, 100)
        found = await asyncio.gather(*(batcher.answer(np.array([i]), POLICY) for i in range(4)), return_exceptions=True)
        batcher.close()
        return found

    found = asyncio.run(main())
    assert [isinstance(each, StageFailed) for each in found] == [False, True, False, True]


def test_rows_beyond_the_queue_are_refused_at_once_and_room_comes_back():
    release = threading.Event()

    def run(rows, policy, earlier):
        release.wait(5)
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(run, None, 4, 8)
        running = asyncio.create_task(batcher.answer(np.arange(4), POLICY))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(batcher.answer(np.arange(8), POLICY))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="8 rows are waiting"):
            await batcher.answer(np.arange(1), POLICY)
        release.set()
        await asyncio.gather(running, waiting)
        assert len(await batcher.answer(np.arange(8), POLICY)) == 8
        batcher.close()

    asyncio.run(main())


def test_callers_that_went_away_leave_no_rows_in_the_queue():
    release = threading.Event()

    def run(rows, policy, earlier):
        release.wait(5)
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(run, None, 4, 8)
        running = asyncio.create_task(batcher.answer(np.arange(4), POLICY))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.answer(np.arange(8), POLICY))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        release.set()
        await running
        assert len(await asyncio.wait_for(batcher.answer(np.arange(8), POLICY), 5)) == 8
        batcher.close()

    asyncio.run(main())


def test_evidence_travels_with_the_unsure_rows_through_split_and_joined_batches():
    seen = []

    def first(rows, policy, earlier):
        assert earlier is None
        answers = say(rows, rows % 3 == 0)
        unsure = rows[answers.stage == PENDING]
        return replace(answers, evidence=np.stack([unsure, -unsure], axis=1).astype(float))

    def second(rows, policy, earlier):
        seen.append(len(rows))
        np.testing.assert_array_equal(earlier, np.stack([rows, -rows], axis=1))
        answers = Answers(rows.copy(), np.where(rows % 3 == 1, 1, PENDING), np.ones(len(rows)), np.ones(len(rows)))
        pending = answers.stage == PENDING
        return replace(answers, evidence=np.concatenate([earlier, earlier], axis=1)[pending])

    def third(rows, policy, earlier):
        np.testing.assert_array_equal(earlier, np.stack([rows, -rows, rows, -rows], axis=1))
        return Answers(rows.copy(), np.full(len(rows), 2), np.ones(len(rows)), np.ones(len(rows)))

    async def main():
        last = Batcher(third, None, 3, 1000)
        middle = Batcher(second, last.answer, 5, 1000)
        gateway = Batcher(first, middle.answer, 16, 1000)
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
    def run(rows, policy, earlier):
        np.testing.assert_array_equal(earlier[:, 0], rows)
        if (rows == 13).any():
            raise ValueError("unlucky")
        return say(rows, np.ones(len(rows), dtype=bool))

    async def main():
        batcher = Batcher(run, None, 64, 100)
        calls = [np.array([i]) for i in range(10, 16)]
        found = await asyncio.gather(
            *(batcher.answer(rows, POLICY, rows[:, None].astype(float)) for rows in calls), return_exceptions=True
        )
        batcher.close()
        return found

    found = asyncio.run(main())
    assert [isinstance(each, StageFailed) for each in found] == [i == 13 for i in range(10, 16)]
