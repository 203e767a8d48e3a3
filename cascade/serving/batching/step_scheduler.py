"""Which batch of a segment runs next, and in which of its steps."""

from cascade.serving.batching.batch import Batch
from cascade.serving.batching.batch_queue import BatchQueue
from cascade.serving.batching.call import Call
from cascade.serving.batching.row_queue import RowQueue
from cascade.serving.batching.steps import Steps

__all__ = ["StepScheduler"]


class StepScheduler:
    """The queue of a segment's first step, and one of each later step; all times are on one clock, in seconds.

    Args:
        steps: of the segment.
        max_batch_rows: most rows of a batch of the first step; a later step may gather more.
        max_queue_rows: most rows that wait for the first step.
    """

    def __init__(self, steps: Steps, max_batch_rows: int, max_queue_rows: int) -> None:
        self._steps = steps
        self._max_batch_rows = max_batch_rows
        self._calls = RowQueue(max_queue_rows)
        # Of the second step, the third, ...
        self._gathering: list[BatchQueue] = []

    def __bool__(self) -> bool:
        """Whether rows wait."""
        return bool(self._calls) or any(self._gathering)

    @property
    def queue_rows(self) -> int:
        """Rows that wait for the first step."""
        return len(self._calls)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest rows came that wait for a step; ``None`` if none wait."""
        since = [self._calls.oldest_at, *(queue.oldest_at for queue in self._gathering)]
        return min((moment for moment in since if moment is not None), default=None)

    def append(self, call: Call) -> None:
        """Adds a call to the first step.

        Raises:
            Overloaded: too many rows are waiting.
        """
        self._calls.append(call)

    def discard(self, call: Call) -> None:
        """Drops the rows of a call that wait for the first step."""
        self._calls.discard(call)

    def gather(self, batch: Batch, step: int, now: float) -> None:
        """Adds rows to a later step, from 1."""
        while len(self._gathering) < step:
            self._gathering.append(BatchQueue())
        self._gathering[step - 1].append(batch, now)

    def next(self, now: float) -> tuple[Batch | None, int] | None:
        """The batch to run, and the index of its step; ``None`` if no rows wait.

        A later step comes first where it has gathered enough rows, or for long enough; else the first step that has
        rows. The batch is ``None`` where no caller waits for it any more.
        """
        for step in range(len(self._gathering), 0, -1):
            if self._is_gathered(step, now):
                return self._take(step), step
        batch = self._calls.take(self._max_batch_rows, now)
        if batch is not None:
            return batch, 0
        waiting = next((step for step, queue in enumerate(self._gathering, 1) if queue), None)
        return None if waiting is None else (self._take(waiting), waiting)

    def _is_gathered(self, index: int, now: float) -> bool:
        queue = self._gathering[index - 1]
        if queue.first is None or queue.oldest_at is None:
            return False
        step = self._steps(queue.first.policy)[index]
        return len(queue) >= step.target_rows or now - queue.oldest_at >= step.max_wait_s

    def _take(self, index: int) -> Batch | None:
        queue = self._gathering[index - 1]
        target_rows = 0 if queue.first is None else self._steps(queue.first.policy)[index].target_rows
        return queue.take(max(target_rows, self._max_batch_rows))
