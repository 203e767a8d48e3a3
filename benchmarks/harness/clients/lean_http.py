"""A client that uses little processor time: HTTP/1.1 over kept-alive connections, without a library.

aiohttp uses more processor time per request than the gateway, and on one machine the server lacks the time that the
client uses. It reads responses of ``cascade serve`` (a content length, no chunks) and no others.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.http_target import request_body
from cascade.benchmarks.target import Reply

__all__ = ["LeanConnection", "LeanHttpTarget", "request_bytes"]

HEADER_END = b"\r\n\r\n"


def request_bytes(rows: np.ndarray, host: str = "127.0.0.1") -> bytes:
    """A whole request for ``/predict``."""
    body, headers = request_body(rows)
    lines = [f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEADER_END + body


class LeanConnection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether a further request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and self._waiting is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the request that waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Ends the request that waits, once its answer is complete."""
        self._buffer += data
        end = self._buffer.find(HEADER_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        size = end + len(HEADER_END) + length
        if len(self._buffer) < size:
            return
        body, self._buffer = self._buffer[end + len(HEADER_END) : size], self._buffer[size:]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body))
        if b"\r\nconnection: close" in head and self._transport is not None:
            self._transport.close()  # the server reads no further request

    async def ask(self, request: bytes, timeout_s: float = 30.0) -> tuple[int, bytes]:
        """Sends a request; returns status and body.

        Raises:
            OSError: the connection was cut before the answer was there.
            TimeoutError: there is no answer yet.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server closed the connection")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(timeout_s, self._time_out)  # wait_for would make a task
        try:
            self._transport.write(request)
            return await self._waiting
        except BaseException:
            self.close()  # a late answer would be read as that to the next request
            raise
        finally:
            timer.cancel()
            self._waiting = None

    def _time_out(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(TimeoutError())

    def close(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class LeanHttpTarget:
    """A target of loads.

    Args:
        url: of the server, such as "http://127.0.0.1:8000".
        stages: names of the cascade's stages.
        connections: most at a time.
        timeout_s: a request without an answer by then counts as failed.
    """

    def __init__(self, url: str, stages: Sequence[str], connections: int, timeout_s: float = 30.0) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._stages = stages
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(connections)
        self._idle: deque[LeanConnection] = deque()
        self._requests: dict[int, bytes] = {}

    async def open(self) -> None:
        """Does nothing: connections are opened when they are needed."""

    async def send(self, rows: np.ndarray) -> Reply:
        """One request."""
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
        content: Any = orjson.loads(body)
        if status != 200:
            raise RequestFailed(str(status), str(content.get("error")))
        if not isinstance(content, dict):
            raise TargetError(f"the server's answer must be an object; got {type(content).__name__}")
        return Reply.from_columns(content, self._stages, len(rows))

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        async with self._room:
            # All connections in turn: the last ones alone would load one of several gateways more than the others.
            connection = self._idle.popleft() if self._idle else None
            while connection is not None and not connection.usable:
                connection = self._idle.popleft() if self._idle else None
            connection = connection or await self._connect()
            answer = await connection.ask(request, self._timeout_s)
            self._idle.append(connection)
            return answer

    async def _connect(self) -> LeanConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(LeanConnection, self._host, self._port)
        return connection

    async def close(self) -> None:
        """Closes all connections."""
        while self._idle:
            self._idle.pop().close()
