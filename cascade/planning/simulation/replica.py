"""A simulated replica: its queues, and the choice of its next micro-batch."""

from collections import deque
from typing import NamedTuple

from cascade.planning.simulation.processors import Processors

__all__ = ["Call", "Replica", "Step"]


class Step(NamedTuple):
    """Stages that run one after the other on the same micro-batch.

    Attributes:
        stages: their indices.
        target_rows: rows that are gathered for them.
        max_wait_ms: for how long.
        is_last: of the segment.
    """

    stages: tuple[int, ...]
    target_rows: int
    max_wait_ms: float
    is_last: bool


class Call:
    """Rows that a replica has sent to the next segment together; they return together.

    Attributes:
        sender: that gets the answers.
        rows: of the call.
        remaining: rows without an answer.
    """

    __slots__ = ("remaining", "rows", "sender")

    def __init__(self, sender: "Replica", rows: list[int]) -> None:
        self.sender, self.rows, self.remaining = sender, rows, len(rows)


class Replica:
    """One process of a segment.

    Args:
        segment: its index.
        steps: of the segment.
        most_rows: of a micro-batch.
        processors: that it shares; ``None`` if it has its own.

    Attributes:
        batch: rows that run; empty if it is idle.
        step: index of the step that they run in.
        extra_ms: processor time that the next micro-batch takes besides its rows.
        waiting: rows that wait for the first step, with the time since when.
        forwarding: rows that wait for a call to the next segment.
        calls: under way to the next segment.
        busy_ms: time with a running micro-batch.
    """

    __slots__ = (
        "_gathering", "_most_rows", "_since", "batch", "began", "busy_ms", "calls", "extra_ms", "forwarding",
        "processors", "segment", "step", "steps", "waiting",
    )  # fmt: skip

    def __init__(self, segment: int, steps: list[Step], most_rows: int, processors: Processors | None) -> None:
        self.segment, self.steps, self.processors = segment, steps, processors
        self._most_rows = most_rows
        self.waiting: deque[int] = deque()
        self._gathering: list[deque[int]] = [deque() for _ in steps[1:]]
        self._since: list[deque[tuple[float, int]]] = [deque() for _ in steps[1:]]
        self.batch: list[int] = []
        self.step = 0
        self.extra_ms = 0.0
        self.forwarding: list[int] = []
        self.calls = 0
        self.began = self.busy_ms = 0.0

    @property
    def load(self) -> int:
        """Rows that wait or run."""
        return len(self.waiting) + len(self.batch)

    def gather(self, rows: list[int], step: int, now: float) -> None:
        """Adds rows to a later step, from 1."""
        self._gathering[step - 1].extend(rows)
        self._since[step - 1].append((now, len(rows)))

    def take(self, now: float) -> list[int]:
        """The rows to run next, with their step in :attr:`step`; a later step first where enough rows are gathered.

        The same choice as that of a served segment (``StepScheduler``).
        """
        for index in range(len(self._gathering), 0, -1):
            queue = self._gathering[index - 1]
            if queue and (
                len(queue) >= self.steps[index].target_rows
                or now - self._since[index - 1][0][0] >= self.steps[index].max_wait_ms
            ):
                return self._take(index)
        if self.waiting:
            self.step = 0
            return _popped(self.waiting, self._most_rows)
        for index, queue in enumerate(self._gathering, 1):
            if queue:
                return self._take(index)
        return []

    def _take(self, index: int) -> list[int]:
        """As a served segment does: whole micro-batches, at least one."""
        self.step = index
        most = max(self.steps[index].target_rows, self._most_rows)
        since, taken = self._since[index - 1], 0
        while since and (not taken or taken + since[0][1] <= most):
            taken += since.popleft()[1]
        return _popped(self._gathering[index - 1], taken)


def _popped(queue: "deque[int]", most: int) -> list[int]:
    if len(queue) <= most:
        rows = list(queue)
        queue.clear()
        return rows
    return [queue.popleft() for _ in range(most)]
