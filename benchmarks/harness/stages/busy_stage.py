"""A model that only burns processor time: the same work a row wherever it runs.

It needs nothing but NumPy, so that peers in environments of their own run the very same code. The time is spent in one
call that lets go of the interpreter, as real models do, and is counted in rounds of a hash, since a busy loop against a
clock would do less work on a busy machine.
"""

import hashlib
import time
from collections.abc import Sequence

import numpy as np

__all__ = ["CLASSES", "THRESHOLD", "BusyStage", "TwoStages", "columns", "new_rows", "rounds_per_s"]

CLASSES = 10
FORWARDED_EVERY = 5
"""A row whose first byte is a multiple of this is forwarded by the first stage."""
SURE, UNSURE = 0.9, 0.5
THRESHOLD = 0.8
LATER_STAGE_BYTE = 2
STAGES = ("small", "large")


class BusyStage:
    """Spends a fixed work on each row, and reads the answer from one of the row's bytes.

    Args:
        rounds_per_row: see :func:`rounds_per_s`.
        answer_byte: 1, or ``LATER_STAGE_BYTE`` for the stage that is always sure.
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
            confidence[flat[:, 0] % FORWARDED_EVERY == 0] = UNSURE
        probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
        probabilities[np.arange(len(rows)), flat[:, self.answer_byte] % CLASSES] = confidence
        return probabilities


class TwoStages:
    """Both stages in one process, for peers that have no stages of their own.

    Args:
        rounds_per_row: of the first and of the second stage.
    """

    def __init__(self, rounds_per_row: Sequence[int]) -> None:
        self.first, self.second = new_stages(rounds_per_row)

    def predict(self, rows: np.ndarray) -> list[tuple[int, int, float]]:
        """(n, ...) uint8 -> n times (answer, stage, confidence)."""
        said = top(self.first.predict(rows), 0)
        unsure = [place for place, (_, _, confidence) in enumerate(said) if confidence < THRESHOLD]
        if unsure:
            for place, later in zip(unsure, top(self.second.predict(rows[unsure]), 1)):
                said[place] = later
        return said


def new_stages(rounds_per_row: Sequence[int]) -> tuple[BusyStage, BusyStage]:
    """The first and the second stage."""
    return BusyStage(rounds_per_row[0]), BusyStage(rounds_per_row[1], LATER_STAGE_BYTE)


def top(probabilities: np.ndarray, stage: int) -> list[tuple[int, int, float]]:
    """(n, C) -> n times (answer, stage, confidence)."""
    answer = probabilities.argmax(axis=1)
    return [(a, stage, c) for a, c in zip(answer.tolist(), probabilities.max(axis=1).tolist())]


def columns(said: tuple[int, int, float]) -> dict[str, list[object]]:
    """What a server answers to one row."""
    answer, stage, confidence = said
    return {"answer": [answer], "stage": [STAGES[stage]], "confidence": [confidence]}


def burn(rounds: int) -> None:
    """Spends processor time that is proportional to ``rounds``, without the interpreter's lock."""
    if rounds > 0:
        hashlib.pbkdf2_hmac("sha256", b"idk", b"cascade", rounds)


def rounds_per_s(tries: int = 20, rounds: int = 20_000) -> float:
    """Rounds that one logical processor makes in a second of its own time, the fastest of some tries."""
    seconds = []
    for _ in range(tries):
        begin = time.thread_time()
        burn(rounds)
        seconds.append(time.thread_time() - begin)
    return rounds / min(seconds)


def new_rows(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3, 32, 32) uint8, of which exactly each fifth is forwarded.

    Args:
        count: a multiple of 5.
        seed: of the other bytes.
    """
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    rows.reshape(count, -1)[:, 0] = np.arange(count) % (256 // FORWARDED_EVERY * FORWARDED_EVERY)
    return rows
