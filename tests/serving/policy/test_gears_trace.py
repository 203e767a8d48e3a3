"""A burst through real queues, batches and gears, on a clock that jumps: the same on any machine, however busy."""

import asyncio
import selectors
from dataclasses import replace

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.calibration import Policy, PolicySet
from cascade.config import GearsConfig
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import Overloaded
from cascade.serving.policy.keeper import PolicyKeeper
from cascade.serving.policy.log import PolicyLog

SMALL_S, LARGE_S = 2e-4, 16e-3
FORWARDED = (0.4, 0.2, 0.07)
BURST_BEGINS_S, BURST_ENDS_S, TRACE_S = 5, 35, 65
OBJECTIVE_MS = 500


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when it is idle; a thread takes the time of its rows."""

    def __init__(self):
        self.now = 0.0
        selector = selectors.DefaultSelector()
        select = selector.select

        def jump(timeout=None):
            events = select(0)
            if not events and timeout:
                self.now += timeout
            return events

        selector.select = jump
        super().__init__(selector)

    def time(self):
        return self.now

    def run_in_executor(self, _, function, step, batch):
        done = self.create_future()
        seconds = len(batch.rows) * (SMALL_S if step.run is small else LARGE_S)
        self.call_later(seconds, lambda: done.set_result(function(step, batch)))
        return done


def small(rows, policy, *_):
    sure = rows[:, 0] >= policy.threshold(0)
    return Answers(np.zeros(len(rows), int), np.where(sure, 0, PENDING), rows[:, 0], np.ones(len(rows)))


def large(rows, *_):
    return Answers(np.ones(len(rows), int), np.ones(len(rows), int), rows[:, 0], np.ones(len(rows)))


def new_gears():
    """A row's confidence is uniform, so a threshold is the share that is deferred."""
    return PolicySet(
        tuple(
            replace(
                Policy.from_thresholds(("small", "large"), np.array([share])),
                certificate={"observed": {"mean_cost": SMALL_S + share * LARGE_S}},
            )
            for share in FORWARDED
        )
    )


async def trace(settings):
    """(n, 3): when each request was due, its latency in ms (infinite if it was refused), its gear."""
    random, loop, gears = np.random.default_rng(0), asyncio.get_running_loop(), new_gears()
    places = {policy.version: place for place, policy in enumerate(gears.gears)}
    capacity = 1 / (FORWARDED[0] * LARGE_S)
    last = Batcher(single_step(large), None, BatcherOptions(4, 1024))
    first = Batcher(single_step(small), last.answer, BatcherOptions(4, 1024))
    keeper = PolicyKeeper(gears, (), settings, PolicyLog(None))
    watch = asyncio.create_task(keeper.watch(first))
    requests, tasks = [], []

    async def ask(due):
        policy = keeper.policy
        try:
            await first.answer(random.random((1, 1)), policy, timeout_s=30)
        except Overloaded:
            requests.append((due, np.inf, -1))
        else:
            requests.append((due, 1e3 * (loop.time() - due), places[policy.version]))

    while loop.time() < TRACE_S:
        due = loop.time()
        tasks.append(asyncio.create_task(ask(due)))
        rate = capacity * (3 if BURST_BEGINS_S <= due < BURST_ENDS_S else 0.5)
        await asyncio.sleep(random.exponential(1 / rate))
    await asyncio.gather(*tasks)
    watch.cancel()
    for batcher in (first, last):
        batcher.close()
    return np.array(sorted(requests))


def run(settings):
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(trace(settings))
    finally:
        loop.close()


def p99_by_second(requests):
    second = requests[:, 0].astype(int)
    return np.array([np.quantile(requests[second == each, 1], 0.99, method="lower") for each in range(TRACE_S)])


def test_a_burst_of_three_times_the_capacity_is_served_with_gears_and_not_without():
    requests = run(GearsConfig(step_down_wait_ms=80))
    due, latency_ms, gear = requests.T
    assert np.isfinite(latency_ms).all()
    assert (p99_by_second(requests) <= OBJECTIVE_MS).mean() >= 0.98
    burst = (due > BURST_BEGINS_S + 2) & (due < BURST_ENDS_S)
    assert (gear[burst] == 2).mean() > 0.8
    assert due[gear > 0].max() < BURST_ENDS_S + 30
    assert (gear[due < BURST_BEGINS_S] == 0).mean() > 0.9

    without = p99_by_second(run(None))
    assert (without[BURST_BEGINS_S + 2 : BURST_ENDS_S] > OBJECTIVE_MS).all()
