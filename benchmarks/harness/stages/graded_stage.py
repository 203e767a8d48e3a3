"""Two stages whose rows contain their difficulty, for cascades of different accuracy.

A row is 8 bytes: the first stage's confidence, its answer, the answer of the second stage, and the label, which no
stage reads. The first stage is right as often as its confidence; the second one nearly always.
"""

import time

import numpy as np

__all__ = ["CLASSES", "STAGES", "GradedStage", "graded_confidence", "new_graded_rows"]

CLASSES = 10
STAGES = ("small", "large")
LARGE_ACCURACY = 0.97
CONFIDENCE, SMALL, LARGE, LABEL = range(4)
"""Places of the bytes."""


class GradedStage:
    """Takes a fixed time for each row, and reads its answer from the row.

    It waits, as for an accelerator, and uses no processor time, so that stages, gateway and client do not compete for
    the processors.

    Args:
        seconds_per_row: one batch at a time.
        stage: 0 or 1.
    """

    def __init__(self, seconds_per_row: float, stage: int) -> None:
        self.seconds_per_row = seconds_per_row
        self.stage = stage

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, 8) uint8 -> (n, ``CLASSES``) probabilities."""
        time.sleep(self.seconds_per_row * len(rows))
        confidence = np.full(len(rows), LARGE_ACCURACY) if self.stage else graded_confidence(rows)
        probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
        probabilities[np.arange(len(rows)), rows[:, (SMALL, LARGE)[self.stage]]] = confidence
        return probabilities


def graded_confidence(rows: np.ndarray) -> np.ndarray:
    """(n,) confidence of the first stage, in [0.5, 1]."""
    return 0.5 + rows[:, CONFIDENCE] / 510


def new_graded_rows(count: int, seed: int) -> np.ndarray:
    """(count, 8) uint8; most are easy."""
    random = np.random.default_rng(seed)
    rows = np.zeros((count, 8), dtype=np.uint8)
    rows[:, CONFIDENCE] = np.round(255 * (1 - random.random(count) ** 3))
    rows[:, LABEL] = random.integers(0, CLASSES, count)
    wrong = (rows[:, LABEL] + random.integers(1, CLASSES, count)) % CLASSES
    for place, accuracy in ((SMALL, graded_confidence(rows)), (LARGE, LARGE_ACCURACY)):
        rows[:, place] = np.where(random.random(count) < accuracy, rows[:, LABEL], wrong)
    return rows
