"""What the tests of benchmarks share: a target that is a function, and cascades of two fake models."""

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.benchmarks.target import Reply
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.stage import Stage

ROWS = 64
STAGES = ("small", "big")


class FunctionTarget:
    """Answers every row rightly at stage 0; a coroutine function takes the time of an answer, or raises."""

    def __init__(self, behave):
        self.behave = behave
        self.sent = []
        self.most_at_a_time = self._under_way = 0
        self.opened = self.closed = 0

    async def open(self):
        self.opened += 1

    async def send(self, rows):
        self.sent.append(rows)
        self._under_way += 1
        self.most_at_a_time = max(self.most_at_a_time, self._under_way)
        try:
            await self.behave(len(self.sent) - 1)
        finally:
            self._under_way -= 1
        return Reply(rows[:, 0] % 4, np.zeros(len(rows), dtype=np.int64), np.ones(len(rows)), "version")

    async def close(self):
        self.closed += 1


def confident_rows(share):
    """(64, 4) probabilities that answer ``row % 4``: the first rows, up to a share, with 0.9, the others with 0.4."""
    confidence = np.where(np.arange(ROWS) < share * ROWS, 0.9, 0.4)
    table = np.repeat((1 - confidence)[:, None] / 3, 4, axis=1)
    table[np.arange(ROWS), np.arange(ROWS) % 4] = confidence
    return table


@pytest.fixture(scope="session")
def function_target():
    """The class ``FunctionTarget``."""
    return FunctionTarget


@pytest.fixture(scope="session")
def fake_cascade():
    """A function: a cascade whose first stage answers a share of the rows, and the seconds a row of both stages."""

    def build(share, seconds_per_row=(0.0, 0.0), cost=(1.0, 10.0)):
        stages = [
            Stage(name, FakeBackend(confident_rows(answers), seconds))
            for name, answers, seconds in zip(STAGES, (share, 1.0), seconds_per_row)
        ]
        policy = Policy.from_thresholds(STAGES, np.array([0.8]))
        return Cascade(stages, Policy(policy.stages, policy.routers, policy.thresholds, np.array(cost)))

    return build


@pytest.fixture(scope="session")
def labelled_rows():
    """Rows 0 to 63 of the fake models, and their right answers."""
    rows = np.arange(ROWS)[:, None]
    return rows, rows[:, 0] % 4
