"""Time of the stages that evaluate a whole pyramid level, against that of the same windows gathered."""

import math
import time
from collections.abc import Sequence

import numpy as np

from cascade.backends.backend import PredictsWindows
from cascade.backends.detection.level import Level
from cascade.backends.detection.windows import Windows
from cascade.stage import Stage

__all__ = ["level_shares"]

WINDOWS_ACROSS = 96
"""Windows in each row and column of the level."""
CALL_WINDOWS = 1024
MOST_TURNS = 5


def level_shares(
    stages: Sequence[Stage], rows: np.ndarray, stride: int, seconds: float, seed: int = 0
) -> np.ndarray | None:
    """Time of each stage over a level, divided by its time on the same windows gathered.

    Only the first stage of a cascade gets whole levels, and only from :class:`cascade.Detector`. The level is a mosaic
    of the rows. The shorter one of repeated times counts, over the level and gathered by turns.

    Args:
        stages: K.
        rows: (n, h, w) or (n, h, w, 3) uint8, windows.
        stride: pixels between two windows, >= 1.
        seconds: of each stage, besides the first turn.
        seed: of the mosaic.

    Returns:
        (K,) above 0, NaN for stages whose windows are always gathered; ``None`` if all are.
    """
    shares = np.full(len(stages), np.nan)
    there = [k for k, stage in enumerate(stages) if isinstance(stage.backend, PredictsWindows)]
    if not there:
        return None
    height, width = rows.shape[1:3]
    size = (height + (WINDOWS_ACROSS - 1) * stride, width + (WINDOWS_ACROSS - 1) * stride)
    pixels = mosaic(rows, size, np.random.default_rng(seed))
    for k in there:
        over, alone, end = math.inf, math.inf, 0.0
        for turn in range(MOST_TURNS):
            # A level of its own for each turn: backends keep what they computed for the last one.
            level = Level(0, *size, (1.0, 1.0), (height, width), stride, 0)
            calls = [Windows(level, pixels)[at : at + CALL_WINDOWS] for at in range(0, len(level), CALL_WINDOWS)]
            over = min(over, _seconds(stages[k], calls))
            alone = min(alone, _seconds(stages[k], [np.asarray(call) for call in calls]))
            end = end or time.monotonic() + seconds
            if turn and time.monotonic() > end:
                break
        shares[k] = over / alone
    return shares


def mosaic(rows: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """An image of some size (height, width), tiled with rows drawn at random."""
    down, across = (-(-length // side) for length, side in zip(size, rows.shape[1:3], strict=True))
    drawn = rows[random.integers(0, len(rows), down * across)].reshape(down, across, *rows.shape[1:])
    joined = np.concatenate(list(np.concatenate(list(drawn), axis=1)), axis=1)
    return np.ascontiguousarray(joined[: size[0], : size[1]])


def _seconds(stage: Stage, calls: Sequence[Windows] | Sequence[np.ndarray]) -> float:
    start = time.perf_counter()
    for call in calls:
        stage.predict(call)
    return time.perf_counter() - start
