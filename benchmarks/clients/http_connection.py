"""One HTTP/1.1 connection of a client that uses little processor time."""

import asyncio
from collections.abc import Callable

import httptools

__all__ = ["HttpConnection"]

Ended = Callable[[int, bytes], None]
"""Called with the status and the body of a response; with status 0 and a message where the connection ended first."""


class HttpConnection(asyncio.Protocol):
    """One connection, one request at a time.

    A general client library uses more processor time per request than a gateway, and on one machine the server lacks
    the time that the client uses.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._ended: Ended | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and self._ended is None

    def send(self, request: bytes, ended: Ended) -> None:
        """Sends a whole request; see :data:`Ended`."""
        if self._transport is None or not self.usable:
            ended(0, b"the connection is closed")
            return
        self._ended = ended
        self._transport.write(request)

    async def ask(self, request: bytes, timeout_s: float = 30.0) -> tuple[int, bytes]:
        """Sends a request; returns status and body.

        Raises:
            OSError: the connection was cut before the answer was there.
            TimeoutError: there is no answer yet.
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[tuple[int, bytes]] = loop.create_future()

        def ended(status: int, body: bytes) -> None:
            if waiting.done():
                return
            if status:
                waiting.set_result((status, body))
            else:
                waiting.set_exception(ConnectionResetError(body.decode()))

        def give_up() -> None:
            if not waiting.done():
                waiting.set_exception(TimeoutError())

        timer = loop.call_later(timeout_s, give_up)  # wait_for would make a task
        try:
            self.send(request, ended)
            return await waiting
        except BaseException:
            self.close()  # a late answer would be read as that to the next request
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Closes the connection at once; a request under way is not reported any more."""
        self._ended = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the request that waits."""
        self._transport = None
        self._end(0, str(exc or "the server closed the connection").encode())

    def data_received(self, data: bytes) -> None:
        """Ends the request that waits, once its answer is complete."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(0, f"the answer is not HTTP/1.1: {error}".encode())
            self.close()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()  # the server reads no further request
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._end(status, body)

    def _end(self, status: int, body: bytes) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(status, body)
