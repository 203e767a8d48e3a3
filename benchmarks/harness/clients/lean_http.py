"""Requests over a pool of lean connections, each awaited by its caller."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from cascade.benchmarks.clients.answers import AnswerReader, message_of
from cascade.benchmarks.clients.http_bodies import request_bytes
from cascade.benchmarks.clients.http_connection import HttpConnection
from cascade.benchmarks.clients.http_lanes import HttpAddress
from cascade.benchmarks.errors import RequestFailed

__all__ = ["LeanHttpTarget"]


class LeanHttpTarget:
    """A server of rows.

    Args:
        url: of the server, such as "http://127.0.0.1:8000".
        stages: names of the cascade's stages.
        connections: most at a time.
        timeout_s: a request without an answer by then counts as failed.
    """

    def __init__(self, url: str, stages: Sequence[str], connections: int, timeout_s: float = 30.0) -> None:
        self._address = HttpAddress(url)
        self._reader = AnswerReader(stages=frozenset(stages))
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(connections)
        self._idle: deque[HttpConnection] = deque()
        self._requests: dict[int, bytes] = {}

    async def send(self, rows: np.ndarray) -> dict[str, Any]:
        """One request; the columns of its answer.

        Raises:
            RequestFailed: it was not answered with 200.
            InvalidAnswer: the answer does not fit the rows.
        """
        # A workload sends the same arrays repeatedly.
        request = self._requests.get(id(rows))
        if request is None:
            request = self._requests[id(rows)] = request_bytes(rows)
        try:
            status, body = await self._ask(request)
        except TimeoutError as error:  # an OSError, too
            raise RequestFailed("timeout", f"no answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise RequestFailed("connection", str(error)) from error
        if status != 200:
            raise RequestFailed(str(status), message_of(body))
        return self._reader.read(body, len(rows))

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        async with self._room:
            # All connections in turn: the last ones alone would load one of several gateways more than the others.
            connection = self._idle.popleft() if self._idle else None
            while connection is not None and not connection.usable:
                connection = self._idle.popleft() if self._idle else None
            connection = connection or await self._address.connect()
            answer = await connection.ask(request, self._timeout_s)
            self._idle.append(connection)
            return answer

    async def close(self) -> None:
        """Closes all connections."""
        while self._idle:
            self._idle.pop().close()
