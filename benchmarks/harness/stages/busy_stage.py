"""A model that only uses processor time: the same work per row wherever it runs.

It needs nothing but NumPy, so that peers in environments of their own run the same code. The time is spent in one call
that releases the interpreter's lock, as real models do. It is counted in rounds of a hash, since a loop until a clock
shows some time would do less work on a busy machine.
"""

import hashlib
import time
from collections.abc import Sequence

import numpy as np

__all__ = ["CLASSES", "THRESHOLD", "BusyStage", "TwoStages", "columns", "new_rows", "rounds_per_s"]

CLASSES = 10
DEFERRED_EVERY = 5
"""The first stage defers a row whose first byte is a multiple of this."""
SURE, UNSURE = 0.9, 0.5
THRESHOLD = 0.8
LATER_STAGE_BYTE = 2
STAGES = ("small", "large")


class BusyStage:
    """Does a fixed amount of work for each row, and reads the answer from one of the row's bytes.

    Args:
        rounds_per_row: see :func:`rounds_per_s`.
        answer_byte: 1, or ``LATER_STAGE_BYTE`` for the stage with a constant high confidence.
    """

    def __init__(self, rounds_per_row: int, answer_byte: int = 1) -> None:
        self.rounds_per_row = rounds_per_row
        self.answer_byte = answer_byte

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """(n, ...) uint8 -> (n, ``CLASSES``) probabilities."""
        flat = rows.reshape(len(rows), -1)
        burn(self.rounds_per_row * len(rows))
        confidence = np.full(len(rows), SURE)
        if self.answer_byte != LATER_STAGE_BYTE:
            confidence[flat[:, 0] % DEFERRED_EVERY == 0] = UNSURE
        probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
        probabilities[np.arange(len(rows)), flat[:, self.answer_byte] % CLASSES] = confidence
        return probabilities


class TwoStages:
    """Both stages in one process, for peers without stages.

    Args:
        rounds_per_row: of the first and of the second stage.
    """

    def __init__(self, rounds_per_row: Sequence[int]) -> None:
        self.first, self.second = new_stages(rounds_per_row)

    def predict(self, rows: np.ndarray) -> list[tuple[int, int, float]]:
        """(n, ...) uint8 -> n times (answer, stage, confidence)."""
        found = top(self.first.predict(rows), 0)
        unsure = [place for place, (_, _, confidence) in enumerate(found) if confidence < THRESHOLD]
        if unsure:
            for place, later in zip(unsure, top(self.second.predict(rows[unsure]), 1)):
                found[place] = later
        return found


def new_stages(rounds_per_row: Sequence[int]) -> tuple[BusyStage, BusyStage]:
    """The first and the second stage."""
    return BusyStage(rounds_per_row[0]), BusyStage(rounds_per_row[1], LATER_STAGE_BYTE)


def top(probabilities: np.ndarray, stage: int) -> list[tuple[int, int, float]]:
    """(n, C) -> n times (answer, stage, confidence)."""
    answer = probabilities.argmax(axis=1)
    return [(a, stage, c) for a, c in zip(answer.tolist(), probabilities.max(axis=1).tolist())]


def columns(answered: tuple[int, int, float]) -> dict[str, list[object]]:
    """The body of a server's response to one row."""
    answer, stage, confidence = answered
    return {"answer": [answer], "stage": [STAGES[stage]], "confidence": [confidence]}


def burn(rounds: int) -> None:
    """Uses processor time that is proportional to ``rounds``, without the interpreter's lock."""
    if rounds > 0:
        hashlib.pbkdf2_hmac("sha256", b"idk", b"cascade", rounds)


def rounds_per_s(tries: int = 20, rounds: int = 20_000) -> float:
    """Rounds per second of processor time on one logical processor, the most of some tries."""
    seconds = []
    for _ in range(tries):
        begin = time.thread_time()
        burn(rounds)
        seconds.append(time.thread_time() - begin)
    return rounds / min(seconds)


def new_rows(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3, 32, 32) uint8, of which exactly every fifth is deferred.

    Args:
        count: a multiple of 5.
        seed: of the other bytes.
    """
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    rows.reshape(count, -1)[:, 0] = np.arange(count) % (256 // DEFERRED_EVERY * DEFERRED_EVERY)
    return rows
