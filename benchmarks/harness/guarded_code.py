"""The code that a regression guard times, and beside each the same work by hand, in NumPy, asyncio or torch alone.

The ratio of the two hardly depends on the machine: both run in the same thread, by turns.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from cascade.answers import PENDING, Answers
from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.engine import Segment
from cascade.routers import kernel as routing
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.stage import Stage

__all__ = ["Guarded", "guarded_code"]

ROWS, LARGE, CLASSES = 64, 20_000, 10
THRESHOLDS = np.array([0.8, 0.7, 0.6])
CALLS = 256
"""Of one row each, which the batcher gets at the same moment."""


class Guarded(NamedTuple):
    """A piece of code and its baseline.

    Attributes:
        name: for a report.
        run: the code.
        baseline: the same work by hand.
        usual: ratio of their times.
    """

    name: str
    run: Callable[[], object]
    baseline: Callable[[], object]
    usual: float


@contextmanager
def guarded_code() -> Iterator[list[Guarded]]:
    """Kernel, engine, batcher, and executor of dynamic networks."""
    loop = asyncio.new_event_loop()
    try:
        yield [_kernel(), _kernel_of_small_batches(), _engine(), _batcher(loop), _executor()]
    finally:
        loop.close()


def _kernel() -> Guarded:
    """Which stages the rows of a table reach."""
    confidence = np.random.default_rng(0).random((LARGE, len(THRESHOLDS) + 1))
    never, runs = np.zeros(len(THRESHOLDS)), np.ones(len(THRESHOLDS) + 1, dtype=bool)

    def baseline() -> np.ndarray:
        reached = np.ones(confidence.shape, dtype=bool)
        for k, threshold in enumerate(THRESHOLDS):
            reached[:, k + 1] = reached[:, k] & (confidence[:, k] < threshold)
        return reached

    return Guarded(
        f"kernel, {LARGE:,} rows",
        lambda: routing.reached_stages(confidence, THRESHOLDS, never, runs),
        baseline,
        2.1,
    )


def _kernel_of_small_batches() -> Guarded:
    confidence = np.random.default_rng(0).random(ROWS)

    def run() -> None:
        for _ in range(CALLS):
            routing.accepted(confidence, 0.5)

    def baseline() -> None:
        for _ in range(CALLS):
            np.greater_equal(confidence, 0.5)

    return Guarded(f"kernel, {ROWS} rows", run, baseline, 1.4)


def _engine() -> Guarded:
    """Batches through a segment of four stages that look their predictions up."""
    random = np.random.default_rng(0)
    tables = random.dirichlet(np.full(CLASSES, 0.2), size=(len(THRESHOLDS) + 1, ROWS))
    names = tuple(f"stage{k}" for k in range(len(tables)))
    stages = [Stage(name, FakeBackend(table)) for name, table in zip(names, tables, strict=True)]
    segment, policy = Segment(stages), Policy.from_thresholds(names, THRESHOLDS)
    rows = np.arange(ROWS)[:, None]

    def baseline() -> np.ndarray:
        answer, stage = np.full(ROWS, -1), np.full(ROWS, PENDING)
        confidence, cost = np.zeros(ROWS), np.zeros(ROWS)
        places, pending = np.arange(ROWS), rows
        for k, table in enumerate(tables):
            found = table[pending[:, 0]]
            highest = found.max(axis=1)
            sure = highest >= (THRESHOLDS[k] if k < len(THRESHOLDS) else 0.0)
            answer[places], confidence[places] = found.argmax(axis=1), highest
            cost[places] += 1.0
            stage[places[sure]] = k
            places, pending = places[~sure], pending[~sure]
        return answer

    return Guarded(f"engine, {ROWS} rows, {len(stages)} stages", lambda: segment.run(rows, policy), baseline, 2.5)


def _answers(rows: np.ndarray, *_: object) -> Answers:
    """Of a segment that takes no time."""
    return Answers(rows[:, 0].copy(), np.zeros(len(rows), dtype=np.int64), np.ones(len(rows)), np.ones(len(rows)))


def _batcher(loop: asyncio.AbstractEventLoop) -> Guarded:
    """Calls of one row each through a batcher whose segment takes no time."""
    policy = Policy.from_thresholds(("only",), np.zeros(0))
    batcher = Batcher(single_step(_answers), None, BatcherOptions(ROWS, 2 * CALLS, max_inline_s=60.0))
    calls = [np.full((1, 4), place) for place in range(CALLS)]
    by_hand = _BatcherByHand()

    async def all_of(answer: Callable[..., object], *more: object) -> None:
        await asyncio.gather(*(answer(rows, *more) for rows in calls))  # type: ignore[call-overload]

    return Guarded(
        f"batcher, {CALLS} calls of one row",
        lambda: loop.run_until_complete(all_of(batcher.answer, policy)),
        lambda: loop.run_until_complete(all_of(by_hand.answer)),
        2.2,
    )


class _BatcherByHand:
    """Futures in a list, batches of up to 64 rows, and nothing else."""

    def __init__(self) -> None:
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self._task: asyncio.Task[None] | None = None

    async def answer(self, rows: np.ndarray) -> np.ndarray:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.append((rows, done))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return await done

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:ROWS], self._waiting[ROWS:]
            answers = np.concatenate([rows for rows, _ in batch])[:, 0].copy()
            for place, (_, done) in enumerate(batch):
                done.set_result(answers[place : place + 1])
            await asyncio.sleep(0)


def _executor() -> Guarded:
    """Rows of a batch that skip blocks of a small network, each its own."""
    import torch
    from torch import nn

    from cascade.backends.dynamic.executor import Executor
    from cascade.backends.dynamic.gates import OneShotPolicy
    from cascade.backends.dynamic.site_network import skippable
    from cascade.backends.networks.resnet import CifarResNet

    torch.manual_seed(0)
    network = skippable(CifarResNet(depth=14, width=4).eval())
    paths = (torch.rand(16, len(network.sites)) < 0.5).long()
    images = torch.randn(16, 3, 8, 8)

    class GivenPaths(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return paths.float() * 2 - 1

    executor = Executor(network, OneShotPolicy(GivenPaths()))
    blocks = [site.block for site in network.sites]

    def baseline() -> torch.Tensor:
        with torch.inference_mode():
            x = network.stem(images)
            for block, taken in zip(blocks, paths.T, strict=True):
                kept = taken.nonzero()[:, 0]
                added = block.residual(x[kept])  # type: ignore[operator]
                x = block.shortcut(x).index_add(0, kept, added).relu_()  # type: ignore[operator]
            return network.head(x)

    return Guarded("executor, 16 rows, 6 blocks", lambda: executor.run(images), baseline, 1.18)
