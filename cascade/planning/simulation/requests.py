"""The requests of a simulation: when they arrive, and how many rows each has."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cascade.errors import DataError

__all__ = ["Requests"]

TIME_COLUMN, ROWS_COLUMN = "time_s", "rows"


@dataclass(frozen=True, eq=False)
class Requests:
    """n requests in the order of their arrival.

    Attributes:
        arrival_ms: (n,) float, ascending, from 0.
        rows: (n,) int >= 1.
        connections: of a closed loop: so many requests are under way at any time, each sent when the one before it on
            its connection is answered, and ``arrival_ms`` is not used; 0 for an open loop.
        client_ms: of a closed loop: time from an answer to the next request. The client takes one answer after the
            other, so the requests that follow a micro-batch come one by one, and the first of them does not wait.
    """

    arrival_ms: np.ndarray
    rows: np.ndarray
    connections: int = 0
    client_ms: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows_per_s(self) -> float:
        """Mean rate of an open loop; infinite if all arrive at once."""
        seconds = float(self.arrival_ms[-1]) / 1e3
        return float(self.rows.sum()) / seconds if seconds else math.inf

    @classmethod
    def at_rate(
        cls, rows_per_s: float, count: int, request_rows: int = 1, cv: float = 1.0, seed: int = 0
    ) -> "Requests":
        """Requests at random moments; the times between them have a gamma distribution.

        Args:
            rows_per_s: mean rate of these requests, > 0.
            count: of requests, >= 1.
            request_rows: of each, >= 1.
            cv: coefficient of variation of the times between requests, >= 0: 0 for constant ones, 1 for a Poisson
                process, above 1 for bursts.
            seed: of the random numbers.

        Raises:
            ValueError: a number is out of its range.
        """
        if not 0 < rows_per_s < math.inf:
            raise ValueError(f"rate must be a number of rows per second above 0; got {rows_per_s!r}")
        if not 0 <= cv < math.inf or count < 1 or request_rows < 1:
            raise ValueError(
                f"need cv >= 0 and at least one request of one row; got {cv!r}, {count!r}, {request_rows!r}"
            )
        mean_ms = 1e3 * request_rows / rows_per_s
        between = np.random.default_rng(seed).gamma(1 / cv**2, size=count) if cv else np.ones(count)
        # With a large cv nearly all times are tiny, and few requests may have none between them.
        between = between / between.mean() if between.any() else np.ones(count)
        return cls(np.cumsum(mean_ms * between), np.full(count, request_rows))

    @classmethod
    def in_bursts(
        cls, rows_per_s: float, count: int, factor: float = 4.0, share: float = 0.1, burst_s: float = 1.0, seed: int = 0
    ) -> "Requests":
        """Requests of one row whose rate changes between two levels: a Poisson process modulated by a Markov chain.

        Args:
            rows_per_s: mean rate of these requests, > 0.
            count: of requests, >= 1.
            factor: rate in a burst over the mean rate, in [1, 1 / share).
            share: of the time that is burst, in (0, 1).
            burst_s: mean duration of a burst.
            seed: of the random numbers.

        Raises:
            ValueError: a number is out of its range.
        """
        if not (0 < share < 1 and 1 <= factor < 1 / share and 0 < rows_per_s < math.inf and burst_s > 0 and count >= 1):
            raise ValueError(f"no bursts of {factor!r} times the rate in a share of {share!r} of the time")
        rng = np.random.default_rng(seed)
        calm = (1 - factor * share) / (1 - share)
        mean_s = [burst_s * (1 - share) / share, burst_s]
        # Twice as many periods as are needed in the mean.
        seconds = rng.exponential(np.resize(mean_s, 4 * math.ceil(count / (rows_per_s * sum(mean_s))) + 64))
        rates = np.resize([calm, factor], len(seconds)) * rows_per_s
        # In units of the expected number of requests, they are a Poisson process of rate 1.
        expected = np.cumsum(rng.exponential(1.0, count))
        times = np.interp(expected, np.append(0.0, np.cumsum(seconds * rates)), np.append(0.0, np.cumsum(seconds)))
        return cls(1e3 * times * (count / rows_per_s / times[-1]), np.ones(count, dtype=np.int64))

    @classmethod
    def closed_loop(cls, connections: int, count: int, request_rows: int = 1, client_ms: float = 0.0) -> "Requests":
        """Requests of a closed loop; see the class."""
        return cls(np.zeros(count), np.full(count, request_rows), connections, client_ms)

    @classmethod
    def from_trace(cls, path: Path) -> "Requests":
        """Reads a trace: a CSV file with the columns "time_s" (ascending) and, if they are not all 1, "rows".

        Raises:
            DataError: the file is missing or is not such a trace.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                if TIME_COLUMN not in (reader.fieldnames or []):
                    raise DataError(f"{path}: a trace needs a column {TIME_COLUMN!r}; got {reader.fieldnames}")
                time_s, rows = [], []
                for line in reader:
                    time_s.append(float(line[TIME_COLUMN]))
                    rows.append(int(line.get(ROWS_COLUMN) or 1))
        except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a trace: {error}") from error
        moments, sizes = np.array(time_s, dtype=np.float64), np.array(rows, dtype=np.int64)
        if len(moments) < 2 or not np.isfinite(moments).all() or (np.diff(moments) < 0).any() or (sizes < 1).any():
            raise DataError(
                f"{path}: a trace needs at least two requests, finite times that never fall, and 1 row or more in each"
            )
        return cls(1e3 * (moments - moments[0]), sizes)
