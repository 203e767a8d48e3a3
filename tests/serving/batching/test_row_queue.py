"""The queue of a segment: bounded, fair between versions of the policy, without rows of cancelled callers."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.calibration import Policy
from cascade.serving.batching.call import Call
from cascade.serving.batching.row_queue import RowQueue
from cascade.serving.errors import Overloaded

POLICIES = [Policy.from_thresholds(("small", "big"), np.array([value])) for value in (0.5, 0.6, 0.7)]


def new_call(rows, policy, deadline=math.inf):
    loop = asyncio.new_event_loop()
    loop.close()
    return Call(np.asarray(rows), policy, None, None, deadline, None, False, asyncio.Future(loop=loop))


def drain(queue, most, now=0.0):
    while (batch := queue.take(most, now)) is not None:
        yield batch


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 3)), max_size=20), st.integers(1, 7))
def test_rows_leave_once_in_full_batches_of_one_version_oldest_version_first(arrivals, most):
    """Each arrival: rows, version, and whether it is cancelled (3) before its turn."""
    queue, calls = RowQueue(10_000), []
    for number, (size, version, fate) in enumerate(arrivals):
        calls.append((new_call(np.full(size, number), POLICIES[version]), fate == 3))
        queue.append(calls[-1][0])
    for call, has_gone in calls:
        if has_gone:
            queue.discard(call)
    staying = [call for call, has_gone in calls if not has_gone]
    assert len(queue) == sum(len(call.rows) for call in staying)
    left, taken = [number for number, (_, has_gone) in enumerate(calls) if not has_gone], []
    for batch in drain(queue, most):
        versions = {piece.call.policy.version for piece in batch.pieces}
        assert versions == {calls[left[0]][0].policy.version}
        waiting = sum(len(calls[number][0].rows) for number in left if calls[number][0].policy.version in versions)
        done = sum((np.array(taken) == number).sum() for number in left if calls[number][0].policy.version in versions)
        assert len(batch.rows) == min(most, waiting - done)
        taken.extend(batch.rows.tolist())
        left = [number for number in left if taken.count(number) < len(calls[number][0].rows)]
    assert sorted(taken) == sorted(row for call in staying for row in call.rows.tolist())
    assert len(queue) == 0
    assert all(call.taken == len(call.rows) for call, _ in calls)


def test_a_call_whose_deadline_has_passed_is_dropped():
    queue = RowQueue(10)
    queue.append(new_call([1, 1], POLICIES[0], deadline=5.0))
    queue.append(new_call([2], POLICIES[0], deadline=7.0))
    assert queue.take(8, now=6.0).rows.tolist() == [2]
    assert len(queue) == 0


def test_a_full_queue_refuses_and_keeps_its_count():
    queue = RowQueue(3)
    call = new_call([1, 1], POLICIES[0])
    queue.append(call)
    with pytest.raises(Overloaded, match="2 rows are waiting, 3 may"):
        queue.append(new_call([2, 2], POLICIES[1]))
    queue.discard(call)
    queue.append(new_call([3, 3, 3], POLICIES[1]))
    assert queue.take(8, now=0.0).rows.tolist() == [3, 3, 3]
