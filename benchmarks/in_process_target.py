"""Targets in this process: the engine, or one stage alone."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cascade.benchmarks.target import Reply
from cascade.cascade import Cascade, last_stage_alone

__all__ = ["InProcessTarget", "LastStageTarget"]


class _Threaded:
    """Answers in one thread of its own, since a backend must not be called by two threads at once."""

    def __init__(self, answer: Callable[[np.ndarray], Reply]) -> None:
        self._answer = answer
        self._executor: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Starts the thread."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="target")

    async def send(self, rows: np.ndarray) -> Reply:
        """Answers in the thread; an error of the cascade is not caught, since every call would raise it."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, rows)

    async def close(self) -> None:
        """Ends the thread."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


class InProcessTarget(_Threaded):
    """``Cascade.predict`` in a thread.

    Args:
        cascade: to measure.
    """

    def __init__(self, cascade: Cascade) -> None:
        super().__init__(self._predict)
        self.cascade = cascade
        self._version = cascade.policy.version

    def _predict(self, rows: np.ndarray) -> Reply:
        answers = self.cascade.predict(rows)
        return Reply(answers.answer, answers.stage, answers.cost, self._version, answers.abstained)


class LastStageTarget(_Threaded):
    """The last stage of a cascade, alone, on every row, at its own best batch size.

    Args:
        cascade: whose last stage is measured.
    """

    def __init__(self, cascade: Cascade) -> None:
        super().__init__(self._predict)
        self.alone = last_stage_alone(cascade)
        self._last = len(cascade.stages) - 1
        self._version = cascade.policy.version

    def _predict(self, rows: np.ndarray) -> Reply:
        answers = self.alone.predict(rows)
        return Reply(answers.answer, np.full(len(rows), self._last), answers.cost, self._version)
