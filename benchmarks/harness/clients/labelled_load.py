"""Clients with the right answer to every row, and an account of the outcomes of their requests."""

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from cascade.benchmarks.clients.http_bodies import request_bytes
from cascade.benchmarks.clients.http_connection import HttpConnection
from cascade.benchmarks.harness.stages import busy_stage

__all__ = ["Account", "LabelledLoad"]

CLIENT_TIMEOUT_S = 20.0
PAUSE_S = 0.05
"""Pause of a client after a failure."""
MOST_ROWS = 8
REQUESTS_PER_CONNECTION = 50


@dataclass
class Account:
    """Outcomes of requests.

    Attributes:
        sent: requests.
        right: answered with 200, every row rightly.
        degraded: answered with 200, with rows marked as degraded; the others rightly.
        wrong: answered with 200, with a wrong row that is not marked.
        errors: by status, with ``{"error": "..."}``.
        unclear: errors without such a body, by status.
        unanswered: "timeout", "cut" (the connection ended first) or "refused" (no connection).
        failed_at: moments (``time.monotonic``) at which requests that were not right ended.
        right_at: the moment of the last right answer.
    """

    sent: int = 0
    right: int = 0
    degraded: int = 0
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unclear: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    failed_at: list[float] = field(default_factory=list)
    right_at: float = 0.0

    def note(self, rows: np.ndarray, status: int, body: bytes) -> None:
        """Counts an answer."""
        content = _parsed(body)
        if status == 200:
            outcome = judged(rows, content)
            setattr(self, outcome, getattr(self, outcome) + 1)
            if outcome == "right":
                self.right_at = time.monotonic()
                return
        elif isinstance(content, dict) and isinstance(content.get("error"), str) and content["error"]:
            self.errors[str(status)] += 1
        else:
            self.unclear[str(status)] += 1
        self.failed_at.append(time.monotonic())

    def lose(self, kind: str) -> None:
        """Counts a request without an answer."""
        self.unanswered[kind] += 1
        self.failed_at.append(time.monotonic())

    def recovered_s(self, since: float) -> float | None:
        """Seconds from a moment to the last failure after it; 0 without one, ``None`` if no right answer followed."""
        last = max([since, *(moment for moment in self.failed_at if moment > since)])
        return last - since if self.right_at > last else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the moments."""
        values = {name: value for name, value in vars(self).items() if name not in ("failed_at", "right_at")}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def judged(rows: np.ndarray, columns: Any) -> str:
    """Returns "right", "degraded" or "wrong"."""
    if not isinstance(columns, dict):
        return "wrong"
    flat = rows.reshape(len(rows), -1).astype(int)
    late = flat[:, 0] % busy_stage.DEFERRED_EVERY == 0
    answer = np.where(late, flat[:, busy_stage.LATER_STAGE_BYTE], flat[:, 1]) % busy_stage.CLASSES
    stage = np.where(late, *busy_stage.STAGES[::-1])
    if len(columns.get("answer", [])) != len(rows) or len(columns.get("stage", [])) != len(rows):
        return "wrong"
    degraded = np.array(columns.get("degraded", [False] * len(rows)), dtype=bool)
    same = (np.array(columns["answer"]) == answer) & (np.array(columns["stage"]) == stage)
    if not (same | degraded).all():
        return "wrong"
    return "degraded" if degraded.any() else "right"


@dataclass
class LabelledLoad:
    """Clients that each send a request of one to eight rows, wait for its answer, and send the next.

    Attributes:
        host: of the server.
        port: of the server.
        rows: (n, ...) uint8, from which requests draw at random.
        account: outcomes of the requests.
    """

    host: str
    port: int
    rows: np.ndarray
    account: Account = field(default_factory=Account)

    async def run(self, clients: int, until: asyncio.Event) -> None:
        """Sends until the event is set, and waits for the answers to all requests."""
        await asyncio.gather(*(self._client(np.random.default_rng(seed), until) for seed in range(clients)))

    async def _client(self, random: np.random.Generator, until: asyncio.Event) -> None:
        connection: HttpConnection | None = None
        for turn in itertools.count(1):
            if until.is_set():
                break
            if connection is not None and turn % REQUESTS_PER_CONNECTION == 0:
                connection.close()  # so that a gateway that starts later gets its share
            rows = self.rows[random.integers(0, len(self.rows), random.integers(1, MOST_ROWS + 1))]
            connection = await self.ask(rows, connection)
            if connection is None:
                await asyncio.sleep(PAUSE_S)
        if connection is not None:
            connection.close()

    async def ask(self, rows: np.ndarray, connection: HttpConnection | None = None) -> HttpConnection | None:
        """Sends one request and counts its outcome; returns a connection that may be used again."""
        self.account.sent += 1
        failures = len(self.account.failed_at)
        try:
            if connection is None or not connection.usable:
                connection = await self.connect()
        except OSError:
            self.account.lose("refused")
            return None
        try:
            answer = await asyncio.wait_for(connection.ask(request_bytes(rows)), CLIENT_TIMEOUT_S)
        except asyncio.TimeoutError:
            self.account.lose("timeout")
            return None
        except OSError:
            self.account.lose("cut")
            return None
        self.account.note(rows, *answer)
        if len(self.account.failed_at) > failures:
            await asyncio.sleep(PAUSE_S)
        return connection

    async def connect(self) -> HttpConnection:
        """A new connection."""
        _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, self.host, self.port)
        return connection


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
