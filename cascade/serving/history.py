"""The last minutes of what a process has seen, second by second."""

import time
from collections import Counter, deque
from typing import Any, NamedTuple

import numpy as np

from cascade.serving.histogram import percentiles
from cascade.serving.observations import ANSWERED, Observations

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
    cost: float


class History:
    """Differences between the counts of moments.

    Args:
        seen: what the process has seen.
        slots: most moments that are kept, besides the first.

    Attributes:
        seen: as given.
    """

    def __init__(self, seen: Observations, slots: int = SLOTS) -> None:
        self.seen = seen
        self._moments: deque[_Moment] = deque(maxlen=slots + 1)
        self.tick()

    def tick(self, now_s: float | None = None) -> None:
        """Keeps the counts of this moment; called about once a second.

        Args:
            now_s: by default, ``time.monotonic()``.
        """
        self.seen.fold()
        self._moments.append(
            _Moment(
                time.monotonic() if now_s is None else now_s,
                self.seen.requests.copy(),
                self.seen.latency_ms.counts.copy(),
                self.seen.answered_rows.copy(),
                self.seen.degraded_rows,
                self.seen.cost,
            )
        )

    def series(self) -> dict[str, list[float | None]]:
        """Between each two moments: what was served.

        Returns:
            Lists of equal length, oldest first: "ago_s" (the end of the slot, before the last one), "requests_per_s",
            "refused_per_s", "rows_per_s", and "p50_ms", "p95_ms", "p99_ms", ``None`` where nothing was answered.
        """
        moments = list(self._moments)
        at_s = np.array([moment.at_s for moment in moments])
        seconds = np.maximum(np.diff(at_s), 1e-9)
        answered = np.diff([moment.requests[ANSWERED] for moment in moments])
        refused = np.diff([moment.requests.total() - moment.requests[ANSWERED] for moment in moments])
        rows = np.diff([int(moment.answered_rows.sum()) for moment in moments])
        latency = np.diff(np.stack([moment.latency for moment in moments]), axis=0)
        columns = percentiles(latency, self.seen.latency_ms.edges, PERCENTS).T
        return {
            "ago_s": (at_s[-1] - at_s[1:]).round(3).tolist(),
            "requests_per_s": (answered / seconds).round(3).tolist(),
            "refused_per_s": (refused / seconds).round(3).tolist(),
            "rows_per_s": (rows / seconds).round(3).tolist(),
            **{f"p{percent:.0f}_ms": _numbers(column) for percent, column in zip(PERCENTS, columns)},
        }

    def summary(self) -> dict[str, Any]:
        """Over all moments that are kept.

        Returns:
            "seconds", "requests" (answered), "refused" (a list of status, reason and count, most first),
            "answered_rows" (a list, by the stage), "degraded_rows", "mean_cost" of an answered row, and "p50_ms",
            "p95_ms", "p99_ms"; ``None`` where nothing was answered.
        """
        first, last = self._moments[0], self._moments[-1]
        rows = last.answered_rows - first.answered_rows
        requests = last.requests - first.requests
        answered = requests.pop(ANSWERED, 0)
        latency = (last.latency - first.latency)[None]
        found = percentiles(latency, self.seen.latency_ms.edges, PERCENTS)[0]
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
            "mean_cost": (last.cost - first.cost) / total if total else None,
            **{f"p{percent:.0f}_ms": value for percent, value in zip(PERCENTS, _numbers(found))},
        }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]
