"""The last minutes of the statistics of a process, second by second."""

import time
from collections import Counter, deque
from typing import Any, NamedTuple

import numpy as np

from cascade.serving.telemetry.histogram import percentiles
from cascade.serving.telemetry.observations import ANSWERED, Observations

__all__ = ["History"]

SLOTS = 300
PERCENTS = (50.0, 95.0, 99.0)


class _Moment(NamedTuple):
    """Counts since the start, at a moment (``time.monotonic``)."""

    at_s: float
    requests: Counter[tuple[str, str]]
    latency: np.ndarray
    answered_rows: np.ndarray
    degraded_rows: int
    abstained_rows: int
    cost: float


class _Slot(NamedTuple):
    """Between two moments; percentiles are ``None`` where no request was answered."""

    at_s: float
    requests_per_s: float
    refused_per_s: float
    rows_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class History:
    """Differences between the counts of moments.

    Args:
        stats: of the process.
        slots: most moments that are kept, besides the first.

    Attributes:
        stats: as given.
    """

    def __init__(self, stats: Observations, slots: int = SLOTS) -> None:
        self.stats = stats
        self._moments: deque[_Moment] = deque(maxlen=slots + 1)
        self._slots: deque[_Slot] = deque(maxlen=slots)
        self.tick()

    def tick(self, now_s: float | None = None) -> None:
        """Keeps the counts of this moment; called about once per second.

        Args:
            now_s: by default, ``time.monotonic()``.
        """
        self.stats.fold()
        now = _Moment(
            time.monotonic() if now_s is None else now_s,
            self.stats.requests.copy(),
            self.stats.latency_ms.counts.copy(),
            self.stats.answered_rows.copy(),
            self.stats.degraded_rows,
            self.stats.abstained_rows,
            self.stats.cost,
        )
        if self._moments:
            self._slots.append(self._slot(self._moments[-1], now))
        self._moments.append(now)

    def series(self) -> dict[str, list[float | None]]:
        """What was served between each two moments.

        Returns:
            Lists of equal length, oldest first: "ago_s" (the end of the slot, before the last one), "requests_per_s",
            "refused_per_s", "rows_per_s", and "p50_ms", "p95_ms", "p99_ms", ``None`` where no request was answered.
        """
        end_s = self._moments[-1].at_s
        columns: list[list[Any]] = [list(column) for column in zip(*self._slots)] or [[] for _ in _Slot._fields]
        named = dict(zip(_Slot._fields, columns))
        return {"ago_s": [round(end_s - at_s, 3) for at_s in named.pop("at_s")], **named}

    def summary(self) -> dict[str, Any]:
        """Over all moments that are kept.

        Returns:
            "seconds", "requests" (answered), "refused" (a list of status, reason and count, most first),
            "answered_rows" (a list, by the stage), "degraded_rows", "abstained_rows", "mean_cost" per row, and
            "p50_ms", "p95_ms", "p99_ms"; ``None`` where no request was answered.
        """
        first, last = self._moments[0], self._moments[-1]
        rows = last.answered_rows - first.answered_rows
        requests = last.requests - first.requests
        answered = requests.pop(ANSWERED, 0)
        total = int(rows.sum())
        return {
            "seconds": round(last.at_s - first.at_s, 3),
            "requests": answered,
            "refused": [
                {"status": status, "reason": reason, "requests": count}
                for (status, reason), count in requests.most_common()
            ],
            "answered_rows": rows.tolist(),
            "degraded_rows": last.degraded_rows - first.degraded_rows,
            "abstained_rows": last.abstained_rows - first.abstained_rows,
            "mean_cost": (last.cost - first.cost) / total if total else None,
            **{f"p{percent:.0f}_ms": value for percent, value in zip(PERCENTS, self._percentiles_ms(first, last))},
        }

    def _slot(self, first: _Moment, last: _Moment) -> _Slot:
        seconds = max(last.at_s - first.at_s, 1e-9)
        answered = last.requests[ANSWERED] - first.requests[ANSWERED]
        refused = last.requests.total() - first.requests.total() - answered
        rows = int(last.answered_rows.sum() - first.answered_rows.sum())
        rates = (round(count / seconds, 3) for count in (answered, refused, rows))
        return _Slot(last.at_s, *rates, *self._percentiles_ms(first, last))

    def _percentiles_ms(self, first: _Moment, last: _Moment) -> list[float | None]:
        counts = (last.latency - first.latency)[None]
        found = percentiles(counts, self.stats.latency_ms.edges, PERCENTS)[0]
        return [None if np.isnan(value) else round(float(value), 4) for value in found]
