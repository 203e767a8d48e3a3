"""Steps of a segment: rows are gathered before a stage with a high cost per call, and answers do not change."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.calibration.costs.arrivals import RowsTogether
from cascade.calibration.costs.cost_curve import CostCurve
from cascade.engine import Segment
from cascade.routers import NEVER
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import SegmentSteps
from cascade.serving.errors import StageFailed
from cascade.stage import Stage

SIZES = np.array([1, 2, 4, 8, 16, 32])
CHEAP, COSTLY = CostCurve.fit(SIZES, 0.01 + 0.001 * SIZES), CostCurve.fit(SIZES, 20 + 0.001 * SIZES)


class Model(FakeBackend):
    """Sure of the given rows; takes some time per call, records the sizes, and may fail on one row."""

    def __init__(self, sure, call_s=0.0, fails_on=None):
        table = np.array([[0.95, 0.05] if sure(k) else [0.55, 0.45] for k in range(1000)])
        super().__init__(table)
        self.call_s, self.fails_on, self.sizes = call_s, fails_on, []

    def predict(self, rows):
        self.sizes.append(len(rows))
        time.sleep(self.call_s)
        if self.fails_on is not None and (rows == self.fails_on).any():
            raise ValueError("this row")
        return super().predict(rows)


def new_policy(stages, curves, thresholds):
    policy = Policy.from_thresholds(tuple(stage.name for stage in stages), np.array(thresholds))
    return replace(policy, curves=tuple(curves), arrivals=RowsTogether((64,)))


def served(stages, policy, rows, size=1, forward=None, together=8, **options):
    """Answers of requests that come all at once, from a batcher of the segment's steps."""
    segment = Segment(stages)

    async def main():
        batcher = Batcher(SegmentSteps(segment), forward, BatcherOptions(together, 100_000, **options))
        calls = [batcher.answer(part, policy, timeout_s=20.0) for part in np.split(rows, range(size, len(rows), size))]
        try:
            return await asyncio.gather(*calls, return_exceptions=True), batcher
        finally:
            batcher.close()

    return asyncio.run(main())


@pytest.mark.parametrize("size", [1, 5])
def test_rows_of_many_batches_are_gathered_before_the_expensive_stage_and_every_caller_gets_its_own(size):
    small, big = Model(lambda k: k % 2 == 0), Model(lambda k: True, 5e-3)
    stages = [Stage("small", small), Stage("big", big)]
    policy = new_policy(stages, [CHEAP, COSTLY], [0.9])
    rows = np.arange(80)[:, None]
    answers, batcher = served(stages, policy, rows, size)
    expected = Segment(stages).run(rows, policy)
    np.testing.assert_array_equal(np.concatenate([each.answer for each in answers]), expected.answer)
    np.testing.assert_array_equal(np.concatenate([each.stage for each in answers]), expected.stage)
    np.testing.assert_allclose(np.concatenate([each.cost for each in answers]), expected.cost)
    assert sum(big.sizes[:-1]) == 40
    assert len(big.sizes) - 1 <= 3, "of ten batches of eight rows"
    assert batcher.is_idle


def test_without_a_high_cost_per_call_or_curves_a_segment_is_one_step():
    stages = [Stage("small", Model(lambda k: True)), Stage("big", Model(lambda k: True))]
    segment = Segment(stages)
    for curves in ([CHEAP, CHEAP], [COSTLY, CHEAP]):
        assert len(SegmentSteps(segment)(new_policy(stages, curves, [0.9]))) == 1
    assert len(SegmentSteps(segment)(Policy.from_thresholds(("small", "big"), np.array([0.9])))) == 1
    assert len(SegmentSteps(segment)(new_policy(stages, [CHEAP, COSTLY], [0.9]))) == 2
    # A first stage that does not run leaves the second one nothing to gather for.
    assert len(SegmentSteps(segment)(new_policy(stages, [CHEAP, COSTLY], [NEVER]))) == 1


def test_a_failure_in_a_later_step_fails_its_caller_only():
    stages = [Stage("small", Model(lambda k: False)), Stage("big", Model(lambda k: True, fails_on=13))]
    policy = new_policy(stages, [CHEAP, COSTLY], [0.9])
    answers, _ = served(stages, policy, np.arange(32)[:, None])
    assert [k for k, each in enumerate(answers) if isinstance(each, StageFailed)] == [13]
    assert all(each.stage.tolist() == [1] for k, each in enumerate(answers) if k != 13)


def test_a_row_that_falls_back_has_the_answer_of_the_last_stage_that_ran_on_it():
    stages = [Stage("small", Model(lambda k: False)), Stage("big", Model(lambda k: True, fails_on=13))]
    policy = new_policy(stages, [CHEAP, COSTLY], [0.9])
    answers, _ = served(stages, policy, np.arange(32)[:, None], fallback=1)
    assert answers[13].stage.tolist() == [0]
    assert answers[13].degraded.tolist() == [True]
    assert answers[12].stage.tolist() == [1]


def test_where_no_stage_has_run_on_a_row_there_is_nothing_to_fall_back_to():
    async def gone(rows, policy, evidence, timeout_s, last_stage=None):
        raise StageFailed("gone")

    stages = [Stage("small", Model(lambda k: True))]
    policy = Policy.from_thresholds(("small", "later"), np.array([NEVER]))
    answers, _ = served(stages, policy, np.arange(3)[:, None], forward=gone, fallback=0)
    assert all(isinstance(each, StageFailed) for each in answers)
    policy = Policy.from_thresholds(("small", "later"), np.array([0.99]))
    answers, _ = served(stages, policy, np.arange(3)[:, None], forward=gone, fallback=0)
    assert [each.stage.tolist() for each in answers] == [[0]] * 3


def test_gathered_rows_do_not_wait_forever_while_new_ones_keep_coming():
    small, big = Model(lambda k: k % 10 != 0, 1e-3), Model(lambda k: True)
    stages = [Stage("small", small), Stage("big", big)]
    policy = new_policy(stages, [CHEAP, COSTLY], [0.9])
    segment = Segment(stages)

    async def main():
        batcher = Batcher(SegmentSteps(segment), None, BatcherOptions(4, 100_000))
        loop = asyncio.get_running_loop()
        first = loop.create_task(batcher.answer(np.array([[0]]), policy))
        began = loop.time()
        others = []
        while not first.done() and loop.time() - began < 3:
            others.append(loop.create_task(batcher.answer(np.full((4, 1), 1), policy)))
            await asyncio.sleep(1e-3)
        await asyncio.gather(first, *others)
        batcher.close()
        return first.done(), loop.time() - began

    done, seconds = asyncio.run(main())
    assert done
    assert seconds < 1.0
