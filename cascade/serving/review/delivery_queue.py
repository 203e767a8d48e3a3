"""A bounded queue that a thread of its own empties, so that a slow or broken receiver delays nobody."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from cascade.serving.review.abstentions import Abstentions

__all__ = ["Outbox", "Receiver", "Rejected"]

BATCH_ROWS = 100
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LOG_EVERY_S = 60.0

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class Rejected(Exception):
    """The receiver will never take these records; others it may."""


class Receiver(Protocol):
    """Where records go."""

    def write(self, records: Sequence[Record]) -> None:
        """Writes all of some records, or none.

        Raises:
            OSError: not now; it is to be tried again.
            Rejected: never.
        """


class Outbox:
    """Hands records to a receiver.

    What the receiver cannot take is tried again, after ever longer waits, while more gathers; what the queue has no
    room for is dropped, counted, and told in the log once a minute.

    Args:
        name: of the receiver, for the log.
        receiver: called in the outbox's thread.
        classes: names of the answers, for the records.
        max_rows: most rows that wait or are being written.
        first_wait_s: after the first failure; doubled after every further one.
    """

    def __init__(
        self,
        name: str,
        receiver: Receiver,
        classes: Sequence[str] | None,
        max_rows: int,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._name = name
        self._receiver = receiver
        self._classes = classes
        self._max_rows = max_rows
        self._first_wait_s = first_wait_s
        self._queue: queue.SimpleQueue[Abstentions | None] = queue.SimpleQueue()
        # Each number is written by one thread only, so that no lock is needed.
        self._added = self._refused = 0
        self._written = self._rejected = self._failures = 0
        self._logged_at = -LOG_EVERY_S
        self._logged_dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"review {name}", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> dict[str, int]:
        """Rows "written", "dropped" and "waiting", and "failures" of the receiver, since the start."""
        dropped = self._refused + self._rejected
        waiting = self._added - self._written - self._rejected
        return {"written": self._written, "dropped": dropped, "waiting": waiting, "failures": self._failures}

    def put(self, rows: Abstentions) -> None:
        """Takes rows, or drops them all where there is no room; never waits. Called by one thread."""
        if self._added - self._written - self._rejected + len(rows) > self._max_rows:
            self._refused += len(rows)
            return
        self._added += len(rows)
        self._queue.put(rows)

    def close(self, timeout_s: float) -> None:
        """Tries once to write what waits, and ends; what could not be written by then is dropped."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            records = [record for rows in self._with_waiting(first) for record in rows.records(self._classes)]
            for start in range(0, len(records), BATCH_ROWS):
                self._deliver(records[start : start + BATCH_ROWS])

    def _with_waiting(self, first: Abstentions) -> list[Abstentions]:
        """About a batch, as far as it is there."""
        taken, rows = [first], len(first)
        while rows < BATCH_ROWS and not self._queue.empty():  # nobody else takes from it
            following = self._queue.get()
            if following is None:
                self._queue.put(None)  # seen again when these are written
                break
            taken.append(following)
            rows += len(following)
        return taken

    def _deliver(self, records: Sequence[Record]) -> None:
        wait_s = self._first_wait_s
        while True:
            try:
                self._receiver.write(records)
            except OSError as error:
                self._failures += 1
                self._log(error)
                if not self._closing.wait(wait_s):
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                    continue
            except Exception as error:  # a thread that ended would be worse than lost records
                self._failures += 1
                self._rejected += len(records)
                self._log(error)
                return
            else:
                self._written += len(records)
                self._log(None)
                return
            self._rejected += len(records)
            return

    def _log(self, error: Exception | None) -> None:
        """Says once in a while what goes wrong, and how much was dropped since."""
        dropped = self.counts["dropped"]
        if (error is None and dropped == self._logged_dropped) or time.monotonic() < self._logged_at + LOG_EVERY_S:
            return
        self._logged_at = time.monotonic()
        counts = self.counts
        logger.warning(
            "review %s: %s; rows waiting: %d, dropped so far: %d",
            self._name,
            "rows come faster than they are taken" if error is None else error or type(error).__name__,
            counts["waiting"],
            dropped,
        )
        self._logged_dropped = dropped
