"""What the tests of benchmarks share: cascades of two fake models, their rows, and servers whose answers are given."""

import numpy as np
import pytest

from cascade.backends.fake_backend import FakeBackend
from cascade.calibration import Policy
from cascade.cascade import Cascade
from cascade.stage import Stage

ROWS = 64
STAGES = ("small", "big")


def confident_rows(share):
    """(64, 4) probabilities that answer ``row % 4``: the first rows, up to a share, with 0.9, the others with 0.4."""
    confidence = np.where(np.arange(ROWS) < share * ROWS, 0.9, 0.4)
    table = np.repeat((1 - confidence)[:, None] / 3, 4, axis=1)
    table[np.arange(ROWS), np.arange(ROWS) % 4] = confidence
    return table


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
