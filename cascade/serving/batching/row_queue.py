"""Calls that wait for a segment."""

from collections import OrderedDict

from cascade.serving.batching.batch import Batch
from cascade.serving.batching.call import Call, Piece
from cascade.serving.errors import Overloaded

__all__ = ["RowQueue"]


class RowQueue:
    """A bounded queue, in the order of arrival; a batch gathers calls of one kind (:attr:`Call.kind`).

    While a new policy comes into force, calls of two versions are mixed. The oldest call decides which kind is next, so
    none starves, and later calls of that kind join it, so batches stay full.

    Args:
        max_rows: most rows that wait; a call beyond it is refused.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._rows = 0
        self._arrivals = 0
        # Ordered dictionaries: a call that ends early leaves at once, wherever it stands.
        self._lines: dict[tuple[str, int | None], OrderedDict[Call, int]] = {}

    def __len__(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def oldest_at(self) -> float | None:
        """When the oldest call came of which no row has been taken yet; ``None`` if there is none."""
        oldest = (next((call.queued_at for call in line if not call.taken), None) for line in self._lines.values())
        return min((queued_at for queued_at in oldest if queued_at is not None), default=None)

    def append(self, call: Call) -> None:
        """Adds a call.

        Raises:
            Overloaded: too many rows are waiting.
        """
        if self._rows + len(call.rows) > self._max_rows:
            raise Overloaded(f"{self._rows} rows are waiting, {self._max_rows} may; try again later")
        self._arrivals += 1
        self._lines.setdefault(call.kind, OrderedDict())[call] = self._arrivals
        self._rows += len(call.rows)

    def discard(self, call: Call) -> None:
        """Drops the rows of a call that still wait, if there are any."""
        waiting = len(call.rows) - call.taken
        if waiting:
            self._rows -= waiting
            self._take_from(call, waiting)

    def take(self, max_rows: int, now: float) -> Batch | None:
        """The next batch, of at most ``max_rows`` rows; ``None`` if no rows wait.

        Args:
            max_rows: at least 1.
            now: calls with an earlier deadline, or this one, are dropped.
        """
        pieces: list[Piece] = []
        while not pieces and self._lines:
            pieces = self._gather(min(self._lines.values(), key=_arrival_of_first), max_rows, now)
        return Batch.join(pieces) if pieces else None

    def _gather(self, line: "OrderedDict[Call, int]", max_rows: int, now: float) -> list[Piece]:
        pieces = []
        while max_rows and line:
            call = next(iter(line))
            if call.done.done() or call.deadline <= now:
                self.discard(call)
                continue
            size = min(max_rows, len(call.rows) - call.taken)
            pieces.append(Piece(call, range(call.taken, call.taken + size)))
            self._rows -= size
            max_rows -= size
            self._take_from(call, size)
        return pieces

    def _take_from(self, call: Call, rows: int) -> None:
        call.taken += rows
        if call.taken == len(call.rows):
            line = self._lines[call.kind]
            del line[call]
            if not line:
                del self._lines[call.kind]


def _arrival_of_first(line: "OrderedDict[Call, int]") -> int:
    return next(iter(line.values()))
