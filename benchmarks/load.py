"""The load: a closed loop of connections, an open loop of arrivals, or the arrivals of a trace."""

import csv
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from typing_extensions import Self

from cascade.errors import InputError

__all__ = ["Arrivals", "ClosedLoop", "Load", "OpenLoop", "Trace"]

Arrivals = Literal["constant", "poisson", "gamma"]
OPEN_LOOP_CONNECTIONS = 256  # with few connections, requests would wait for a free one
MAX_ARRIVALS = 20_000_000


@dataclass(frozen=True)
class ClosedLoop:
    """Connections that each send a request, wait for its answer, and send the next.

    A closed loop slows down with its target: its latencies are those of this many connections, not those of a given
    arrival rate.

    Attributes:
        connections: at least 1.
        seconds: for which requests are sent in the measured part, above 0.
        warmup_seconds: load of the same kind before it, not measured; 0 for none.
        max_requests: of all connections together, without a warm-up; ``None`` for as many as the time allows.
    """

    connections: int
    seconds: float
    warmup_seconds: float = 0.0
    max_requests: int | None = None
    is_open: ClassVar[bool] = False
    rate_per_s: ClassVar[None] = None

    @property
    def words(self) -> str:
        """The load in words."""
        return f"closed loop, {self.connections} connection{'s' if self.connections > 1 else ''}"

    def due(self, seed: int) -> None:  # noqa: ARG002 (of other loads)
        """``None``: a request is due when a connection is free."""
        return

    def sizes(self) -> None:
        """``None``: all requests have the workload's number of rows."""
        return

    def deadlines(self) -> None:
        """``None``: requests have no deadlines."""
        return


@dataclass(frozen=True)
class OpenLoop:
    """Requests at moments that do not depend on the answers to earlier ones.

    The latency of a request counts from the moment when it was due, so if a target hangs for a second, that second
    counts for every request that was due in it; in a closed loop it would count for one request per connection
    ("coordinated omission"; Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006,
    https://www.usenix.org/conference/nsdi-06/open-versus-closed-cautionary-tale).

    Attributes:
        rate_per_s: mean arrivals per second, above 0.
        seconds: for which requests arrive in the measured part, above 0.
        warmup_seconds: arrivals of the same rate before it, not measured; 0 for none.
        connections: most requests under way; more that are due wait for a free connection, which counts as latency.
        arrivals: "constant", "poisson" or "gamma".
        burstiness: of gamma arrivals, the coefficient of variation of the time between two of them: 1 is a Poisson
            process, more is burstier.
    """

    rate_per_s: float
    seconds: float
    warmup_seconds: float = 0.0
    connections: int = OPEN_LOOP_CONNECTIONS
    arrivals: Arrivals = "poisson"
    burstiness: float = 2.0
    max_requests: ClassVar[None] = None
    is_open: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """The load in words."""
        burst = f" (variation {self.burstiness:g})" if self.arrivals == "gamma" else ""
        return f"{self.arrivals} arrivals{burst}, {self.rate_per_s:g} requests/s"

    def due(self, seed: int) -> np.ndarray:
        """(n,) seconds in [0, warm-up + seconds), ascending.

        Args:
            seed: of the random arrivals.

        Raises:
            InputError: there would be more than 20 million.
        """
        total = self.warmup_seconds + self.seconds
        mean = self.rate_per_s * total
        if mean > MAX_ARRIVALS:
            raise InputError(
                f"{self.rate_per_s:g} requests/s for {total:g} s are more than {MAX_ARRIVALS:,} requests; lower --rate "
                "or --seconds"
            )
        random = np.random.default_rng(seed)
        if self.arrivals == "constant":
            return np.arange(math.ceil(mean)) / self.rate_per_s
        if self.arrivals == "poisson":
            # Given their number, the moments of a Poisson process are uniform and independent.
            return np.sort(random.uniform(0.0, total, max(random.poisson(mean), 1)))
        shape = self.burstiness**-2
        count = math.ceil(mean + 10 * (1 + self.burstiness) * math.sqrt(mean + 1))
        due = np.cumsum(random.gamma(shape, 1 / (shape * self.rate_per_s), count))
        return due[due < total]

    def sizes(self) -> None:
        """``None``: all requests have the workload's number of rows."""
        return

    def deadlines(self) -> None:
        """``None``: requests have no deadlines."""
        return


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests at recorded moments, of recorded sizes.

    Attributes:
        due_s: (n,) seconds from the beginning, ascending.
        rows: (n,) int, rows of each request.
        deadline_s: (n,) seconds from a request's moment to when its answer must be there; infinite for none.
        connections: most requests under way.
    """

    due_s: np.ndarray
    rows: np.ndarray
    deadline_s: np.ndarray
    connections: int = OPEN_LOOP_CONNECTIONS
    warmup_seconds: ClassVar[float] = 0.0
    max_requests: ClassVar[None] = None
    is_open: ClassVar[bool] = True

    @property
    def words(self) -> str:
        """The load in words."""
        return f"trace of {len(self.due_s):,} requests in {self.due_s[-1]:g} s"

    @property
    def seconds(self) -> float:
        """From the first to the last request, and one second more."""
        return float(self.due_s[-1]) + 1.0

    @property
    def rate_per_s(self) -> float:
        """Mean arrivals per second."""
        return len(self.due_s) / self.seconds

    def due(self, seed: int) -> np.ndarray:  # noqa: ARG002 (of other loads)
        """(n,) seconds; a trace has nothing random."""
        return self.due_s

    def sizes(self) -> np.ndarray:
        """(n,) rows of each request."""
        return self.rows

    def deadlines(self) -> np.ndarray | None:
        """(n,) seconds from a request's moment to its deadline, infinite for none; ``None`` if none has one."""
        return self.deadline_s if np.isfinite(self.deadline_s).any() else None

    def faster(self, factor: float) -> Self:
        """The trace with all moments divided by a factor; deadlines stay."""
        return replace(self, due_s=self.due_s / factor)

    @classmethod
    def load(cls, path: Path, connections: int = OPEN_LOOP_CONNECTIONS) -> "Trace":
        """Reads a CSV file with the columns ``time_s``, ``rows`` (1 if missing) and ``deadline_ms`` (none if missing).

        Args:
            path: of the file, with a header; times ascend and count from the first one.
            connections: most requests under way.

        Raises:
            InputError: the file cannot be read, or a line is invalid; the message names the line.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if "time_s" not in (reader.fieldnames or ()):
                    raise InputError(f"{path} must have a header with 'time_s', and may have 'rows' and 'deadline_ms'")
                lines = [_line(path, number, line) for number, line in enumerate(reader, 2)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a CSV file: {error}") from error
        if not lines:
            raise InputError(f"{path} has no requests")
        for number, (before, line) in enumerate(itertools.pairwise(lines), 3):
            if line[0] < before[0]:
                raise InputError(f"{path}, line {number}: {line[0]:g} s comes after {before[0]:g} s; sort the trace")
        due, rows, deadline = (np.array(column) for column in zip(*lines))
        return cls(due - due[0], rows.astype(np.int64), deadline, connections)


Load = ClosedLoop | OpenLoop | Trace


def _line(path: Path, number: int, line: dict[str, str | None]) -> Sequence[float]:
    """(seconds, rows, deadline in seconds) of a line."""
    try:
        due, rows, deadline = float(line["time_s"] or ""), int(line.get("rows") or 1), line.get("deadline_ms")
        seconds = float(deadline) / 1e3 if deadline else math.inf
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, line {number}: {error}") from error
    if not (math.isfinite(due) and rows >= 1 and seconds > 0):
        raise InputError(f"{path}, line {number}: time_s must be finite, rows at least 1, deadline_ms above 0")
    return due, rows, seconds
