"""How long batches take, to tell which are quick enough to run where requests are read."""

import math
from collections import deque

__all__ = ["Pace"]

WINDOW = 7
HANG = 20.0  # times what is quick: a batch that took so long may do so again


class Pace:
    """Foretells the time of a batch from the last ones.

    Args:
        quick_s: most seconds of a quick batch; 0 for none.
    """

    def __init__(self, quick_s: float) -> None:
        self._quick_s = quick_s
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._forget()

    def is_quick(self, rows: int) -> bool:
        """Whether a batch of so many rows will most likely be quick: by the median of the last ones.

        A smaller batch is taken to need as long as a larger one, a larger one in proportion to its rows: both are too
        much rather than too little.
        """
        if not self._quick_s:
            return False
        return sorted(seconds * max(rows / few, 1.0) for few, seconds in self._recent)[WINDOW // 2] <= self._quick_s

    def ran(self, rows: int, seconds: float) -> None:
        """A batch took so long."""
        if seconds > HANG * self._quick_s:
            self._forget()
        else:
            self._recent.append((rows, seconds))

    def _forget(self) -> None:
        self._recent.extend([(1, math.inf)] * WINDOW)
