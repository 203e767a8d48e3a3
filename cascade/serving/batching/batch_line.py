"""Batches that wait to go on together."""

from collections import deque

from cascade.serving.batching.batch import Batch

__all__ = ["BatchLine"]


class BatchLine:
    """A queue of batches, counted in rows."""

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
    def since(self) -> float | None:
        """When it came; ``None`` if there is none."""
        return self._waiting[0][0] if self._waiting else None

    def append(self, batch: Batch, now: float) -> None:
        """Takes a batch in."""
        self._waiting.append((now, batch))
        self._rows += len(batch.rows)

    def take(self, room: int) -> Batch | None:
        """What waits, of one version of the policy, up to so many rows; ``None`` if all its callers are gone.

        Args:
            room: rows; the first batch is taken whatever its size.
        """
        batches: list[Batch] = []
        while self._waiting:
            batch = self._waiting[0][1]
            rows = len(batch.rows)
            if batches and (rows > room or batch.policy.version != batches[0].policy.version):
                break
            self._waiting.popleft()
            batches.append(batch)
            self._rows -= rows
            room -= rows
        there = [batch for batch in batches if not batch.is_done]
        return Batch.merge(there) if there else None
