"""Calls that wait for a segment."""

from collections import OrderedDict

from cascade.serving.batching.batch import Batch
from cascade.serving.batching.call import Call, Piece
from cascade.serving.errors import Overloaded

__all__ = ["RowQueue"]


class RowQueue:
    """A bounded queue, in the order of arrival; a batch gathers the calls of one version of the policy.

    While a new policy comes in, calls of two versions are mixed. The oldest call says which version is next, so none
    starves, and later calls of that version come along, so batches stay full.

    Args:
        max_rows: most rows that wait; a call beyond it is refused.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._rows = 0
        self._arrivals = 0
        # Ordered dictionaries: a call that ends early leaves at once, wherever it stands.
        self._lines: dict[str, OrderedDict[Call, int]] = {}

    def __len__(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def waiting_since(self) -> float | None:
        """When the oldest call came of which no row has been taken yet; ``None`` if there is none."""
        oldest = (next((call.since for call in line if not call.taken), None) for line in self._lines.values())
        return min((since for since in oldest if since is not None), default=None)

    def append(self, call: Call) -> None:
        """Takes a call in.

        Raises:
            Overloaded: too many rows are waiting.
        """
        if self._rows + len(call.rows) > self._max_rows:
            raise Overloaded(f"{self._rows} rows are waiting, {self._max_rows} may; try again later")
        self._arrivals += 1
        self._lines.setdefault(call.policy.version, OrderedDict())[call] = self._arrivals
        self._rows += len(call.rows)

    def discard(self, call: Call) -> None:
        """Lets go of the rows of a call that still wait, if there are any."""
        waiting = len(call.rows) - call.taken
        if waiting:
            self._rows -= waiting
            self._take_from(call, waiting)

    def take(self, most: int, now: float) -> Batch | None:
        """The next batch, of at most ``most`` rows; ``None`` if nothing waits.

        Args:
            most: rows, at least 1.
            now: calls whose deadline is not later have lost their place.
        """
        pieces: list[Piece] = []
        while not pieces and self._lines:
            pieces = self._gather(min(self._lines.values(), key=_arrival_of_first), most, now)
        return Batch.join(pieces) if pieces else None

    def _gather(self, line: "OrderedDict[Call, int]", room: int, now: float) -> list[Piece]:
        pieces = []
        while room and line:
            call = next(iter(line))
            if call.done.done() or call.deadline <= now:
                self.discard(call)
                continue
            size = min(room, len(call.rows) - call.taken)
            pieces.append(Piece(call, range(call.taken, call.taken + size)))
            self._rows -= size
            room -= size
            self._take_from(call, size)
        return pieces

    def _take_from(self, call: Call, rows: int) -> None:
        call.taken += rows
        if call.taken == len(call.rows):
            line = self._lines[call.policy.version]
            del line[call]
            if not line:
                del self._lines[call.policy.version]


def _arrival_of_first(line: "OrderedDict[Call, int]") -> int:
    return next(iter(line.values()))
