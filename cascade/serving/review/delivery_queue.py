"""A bounded queue with a thread that delivers its records, so that a slow or failing receiver delays no request."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from cascade.serving.review.abstentions import Abstentions

__all__ = ["DeliveryQueue", "Receiver", "Rejected"]

BATCH_ROWS = 100
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LOG_EVERY_S = 60.0

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class Rejected(Exception):
    """The receiver refuses these records for good; it may accept others."""


class Receiver(Protocol):
    """The destination of records."""

    def write(self, records: Sequence[Record]) -> None:
        """Writes all of the records, or none.

        Raises:
            OSError: a failure that may pass; the same records are tried again.
            Rejected: the records are refused for good.
        """


class DeliveryQueue:
    """Delivers records to a receiver.

    A failed delivery is tried again, with a wait that doubles each time, while further records queue up. Rows beyond
    the bound are dropped, counted, and reported in the log once a minute.

    Args:
        name: name of the receiver, for the log.
        receiver: called in the queue's thread.
        classes: names of the classes, for the records.
        max_rows: bound of the rows that wait or are being written.
        first_wait_s: seconds to wait after the first failure; doubled after each further one.
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
        # Each counter is written by one thread only, so no lock is needed.
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
        """Adds rows, or drops them all where there is no room; never waits. Called by one thread."""
        if self._added - self._written - self._rejected + len(rows) > self._max_rows:
            self._refused += len(rows)
            return
        self._added += len(rows)
        self._queue.put(rows)

    def close(self, timeout_s: float) -> None:
        """Tries once to deliver the waiting rows, then ends; undelivered rows are dropped."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            records = [record for rows in self._with_waiting(first) for record in rows.records(self._classes)]
            for start in range(0, len(records), BATCH_ROWS):
                self._deliver(records[start : start + BATCH_ROWS])

    def _with_waiting(self, first: Abstentions) -> list[Abstentions]:
        """The first entry, and further ones without waiting, up to about a batch."""
        taken, rows = [first], len(first)
        while rows < BATCH_ROWS and not self._queue.empty():  # only this thread takes entries
            entry = self._queue.get()
            if entry is None:
                self._queue.put(None)  # for the loop of _run, after this batch
                break
            taken.append(entry)
            rows += len(entry)
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
            except Exception as error:  # lost records are better than a thread that ended
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
        """Logs the failure and the number of dropped rows, once a minute at most."""
        dropped = self.counts["dropped"]
        if (error is None and dropped == self._logged_dropped) or time.monotonic() < self._logged_at + LOG_EVERY_S:
            return
        self._logged_at = time.monotonic()
        counts = self.counts
        logger.warning(
            "review %s: %s; rows waiting: %d, dropped so far: %d",
            self._name,
            "rows arrive faster than they are delivered" if error is None else error or type(error).__name__,
            counts["waiting"],
            dropped,
        )
        self._logged_dropped = dropped
