"""Batches that wait to go on together."""

from collections import deque

from cascade.serving.batching.batch import Batch

__all__ = ["BatchQueue"]


class BatchQueue:
    """A queue of batches; its length is counted in rows."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Batch]] = deque()
        self._rows = 0

    def __len__(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def first(self) -> Batch | None:
        """The batch that has waited longest."""
        return self._waiting[0][1] if self._waiting else None

    @property
    def oldest_at(self) -> float | None:
        """When the first batch was appended; ``None`` if there is none."""
        return self._waiting[0][0] if self._waiting else None

    def append(self, batch: Batch, now: float) -> None:
        """Adds a batch.

        Args:
            batch: at least one row.
            now: seconds, on any clock; :attr:`oldest_at` returns it.
        """
        self._waiting.append((now, batch))
        self._rows += len(batch.rows)

    def take(self, max_rows: int) -> Batch | None:
        """The first batches of one kind, merged; ``None`` if no caller waits for them any more.

        Args:
            max_rows: of the merged batch; the first one is taken whatever its size.
        """
        batches: list[Batch] = []
        while self._waiting:
            batch = self._waiting[0][1]
            rows = len(batch.rows)
            if batches and (rows > max_rows or batch.kind != batches[0].kind):
                break
            self._waiting.popleft()
            batches.append(batch)
            self._rows -= rows
            max_rows -= rows
        waited_for = [batch for batch in batches if not batch.is_done]
        return Batch.merge(waited_for) if waited_for else None
