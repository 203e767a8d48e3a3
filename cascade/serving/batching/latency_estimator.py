"""How long a batch will take, which decides whether it runs in the event loop."""

import math
from collections import deque

__all__ = ["LatencyEstimator"]

WINDOW = 7
RESET_FACTOR = 20.0
"""A batch that took this many times ``quick_s`` may do so again: the estimate starts anew."""


class LatencyEstimator:
    """Predicts the time of a batch from the last seven.

    Args:
        quick_s: most seconds of a quick batch; 0 if none is quick.
    """

    def __init__(self, quick_s: float) -> None:
        self._quick_s = quick_s
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._reset()

    def is_quick(self, rows: int) -> bool:
        """Whether a batch of so many rows will most likely be quick, by the median of the last batches.

        A smaller batch is assumed to take as long as a larger one, and a larger one in proportion to its rows: both
        rather overestimate the time.
        """
        if not self._quick_s:
            return False
        times = sorted(seconds * max(rows / measured, 1.0) for measured, seconds in self._recent)
        return times[WINDOW // 2] <= self._quick_s

    def add(self, rows: int, seconds: float) -> None:
        """Adds the measured time of a batch."""
        if seconds > RESET_FACTOR * self._quick_s:
            self._reset()
        else:
            self._recent.append((rows, seconds))

    def _reset(self) -> None:
        self._recent.extend([(1, math.inf)] * WINDOW)
