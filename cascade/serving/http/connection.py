"""One HTTP/1.1 connection of a listener, with limits on the size and slowness of requests."""

import asyncio
import socket
import struct
import urllib.parse
from collections import deque
from typing import NamedTuple, Protocol

import httptools

from cascade.config import ServingConfig
from cascade.errors import CascadeError
from cascade.serving.auth.guard import is_health_path
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import BodyTooLarge, HeaderTooLarge, MalformedRequest, Overloaded, RequestTooSlow
from cascade.serving.http.reply import Reply
from cascade.serving.request import Request

__all__ = ["App", "Connection"]

# The part of a request that arrives next. Plain numbers, since they are compared several times per request.
_IDLE, _HEADER, _BODY = range(3)

VERSIONS = ("1.1", "1.0")
MAX_FIELDS = 100
MAX_PIPELINED = 100
HEALTH_CONNECTIONS = 16
"""Connections accepted beyond ``max_connections`` for health checks, so that a full gateway does not look dead."""
LINGER_S = 2.0
LINGER_BYTES = 64 << 20
"""How long, and how much, a client may send after its last answer. Closing while bytes arrive would reset the
connection, and the answer would be lost (RFC 9112, section 9.6)."""


class RefusedRequest(NamedTuple):
    """A request that gets an error.

    Attributes:
        error: the error.
        head_only: whether the method is HEAD, whose response has no body.
    """

    error: CascadeError
    head_only: bool


class App(Protocol):
    """Answers requests."""

    def admit(self, request: Request) -> None:
        """Checks a request whose body has not arrived yet.

        Raises:
            CascadeError: the request is refused.
        """

    async def answer(self, request: Request) -> Reply:
        """Answers an admitted request with its body; every error becomes a reply."""

    def error_reply(self, error: CascadeError) -> Reply:
        """The reply to a request that was not admitted, or did not arrive completely."""


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, in order.

    A request is answered once it has arrived completely. These are bounded: the time for a header and for a body to
    arrive, and the time between two requests; the length of a header, its number of fields, the length of a body, and
    of the bodies of all connections together; the number of pipelined requests and of open connections; and the time in
    which the client reads an answer. A client that exceeds a bound, or sends invalid HTTP, gets an error after the
    answers to its earlier requests. Then the connection is closed, once the client has read the error or some time has
    passed. When the client disconnects, its request is cancelled.

    Args:
        app: answers the requests.
        serving: the limits.
        connections: all open connections of the listener; this one is among them while it is open.
        bodies: bound of the bytes that all connections hold.
    """

    def __init__(self, app: App, serving: ServingConfig, connections: "set[Connection]", bodies: PendingBodies) -> None:
        self._app = app
        self._serving = serving
        self._connections = connections
        self._bodies = bodies
        self._parser = httptools.HttpRequestParser(self)
        self._is_surplus = False
        # The request that arrives.
        self._phase = _IDLE
        self._url = b""
        self._headers: dict[str, str] = {}
        self._fields = 0
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._held_bytes = 0
        # Bytes since the parser last called back; they grow with an endless header, chunk size or trailer.
        self._undelivered = 0
        self._request: Request | RefusedRequest | None = None
        self._input_closed = False
        self._retiring = False
        # Requests that wait, and the one that is being answered.
        self._waiting: deque[Request | RefusedRequest] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._reading = True
        # For the deadlines: when the current phase began, and when the client stopped reading its answers.
        self._phase_began = 0.0
        self._idle_s: float = serving.header_timeout_s
        self._stalled_since: float | None = None
        # After the last answer: whether the client may send more, until when that is discarded, and how much was.
        self._lingers = False
        self._linger_until: float | None = None
        self._discarded_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepts the connection, or refuses it if there are too many."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._connections.add(self)
        self._phase_began = self._loop.time()
        surplus = len(self._connections) - self._serving.max_connections
        self._is_surplus = surplus > 0
        if surplus > HEALTH_CONNECTIONS:
            self._end_with_error(self._too_many_connections())
            self._lingers = False
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        """Cancels everything that belongs to the connection."""
        self._input_closed = True
        self._connections.discard(self)
        self._waiting.clear()
        self._parts = []
        self._release(self._held_bytes)
        if self._answering is not None:
            self._answering.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parses received bytes."""
        if not self._input_closed:
            self._parse(data)
            self._advance()
        elif self._linger_until is not None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES:
                self._transport.close()

    def _parse(self, data: bytes) -> None:
        self._undelivered += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered without the upgrade; the bytes after it may be of another protocol.
            self._input_closed = self._lingers = True
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._end_with_error(
                cause if isinstance(cause, CascadeError) else MalformedRequest("the request is not valid HTTP/1.1")
            )
        else:
            if self._undelivered > self._serving.max_header_bytes:
                self._end_with_error(self._header_too_large())

    def on_message_begin(self) -> None:
        """Called by the parser when a request begins."""
        self._phase = _HEADER
        self._phase_began = self._loop.time()
        self._url = b""
        self._headers = {}
        self._fields = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser for a part of the target."""
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for a header field, or a trailer field, of which only the size is used."""
        self._fields += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._phase is _BODY:
            self._check_header_size()
        else:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Called by the parser at the end of the header."""
        self._check_header()
        headers = self._headers
        request = Request(self._parser.get_method().decode("latin-1"), _path(self._url), headers)
        if self._is_surplus and not is_health_path(request.path):
            raise self._too_many_connections()
        expects = headers.get("expect", "").lower() == "100-continue"
        self._request = request
        try:
            self._app.admit(request)
        except CascadeError as error:
            # Otherwise the body of the refused request is read and discarded.
            if expects or isinstance(error, BodyTooLarge):
                raise
            self._request = RefusedRequest(error, self._is_head)
        if expects and self._answering is None and not self._waiting:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._phase = _BODY
        self._phase_began = self._loop.time()
        self._parts = []
        self._body_bytes = 0
        self._undelivered = 0

    def on_body(self, body: bytes) -> None:
        """Called by the parser for a part of the body."""
        self._undelivered = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._serving.max_body_bytes:
            raise BodyTooLarge(f"a body may have {self._serving.max_body_bytes} bytes; this one has more")
        if not isinstance(self._request, Request):
            return
        try:
            self._bodies.hold(len(body))
        except Overloaded as error:
            self._request = RefusedRequest(error, self._is_head)
            self._discard_body()
            return
        self._held_bytes += len(body)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a request."""
        self._phase = _IDLE
        self._undelivered = 0
        request = self._request
        if request is None or self._input_closed:
            return
        if isinstance(request, Request):
            request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._waiting.append(request)
        last = self._retiring or self._is_surplus or not self._parser.should_keep_alive()
        if last or self._parser.get_http_version() == "1.0":
            self._input_closed = True
            # TLS cannot close one direction only.
            self._lingers = not self._is_surplus and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """Called by asyncio when the client does not read its answers."""
        self._stalled_since = self._loop.time()
        self._set_timer()

    def resume_writing(self) -> None:
        """Called by asyncio when the client reads its answers again."""
        if not self._transport.is_closing():
            self._stalled_since = None
            self._advance()

    def retire(self) -> None:
        """Accepts one more request, or none if one is being answered; the last answer has "connection: close"."""
        self._retiring = True
        if self._answering is not None or self._waiting:
            self._input_closed = True
            self._phase = _IDLE

    def finish(self) -> None:
        """Answers the requests that have arrived or are arriving, then closes."""
        self.retire()
        if self._phase is _IDLE:
            self._input_closed = True
        self._advance()

    def abort(self) -> None:
        """Closes at once."""
        self._input_closed = True
        client: socket.socket | None = self._transport.get_extra_info("socket")
        if client is not None:
            # Otherwise the kernel would go on sending the rest of the answers for minutes.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _check_header(self) -> None:
        self._check_header_size()
        if self._parser.get_http_version() not in VERSIONS:
            raise MalformedRequest("only HTTP/1.1 is supported")
        if "," in self._headers.get("host", ""):
            raise MalformedRequest("a request may have only one Host header")
        if len(self._waiting) >= MAX_PIPELINED:
            raise HeaderTooLarge(f"at most {MAX_PIPELINED} requests may be pipelined")
        if self._parser.should_upgrade() and not self._headers.keys().isdisjoint(
            ("content-length", "transfer-encoding")
        ):
            # The parser would treat the body as bytes of the other protocol.
            raise MalformedRequest("only HTTP/1.1 is supported; remove the header Upgrade")

    def _check_header_size(self) -> None:
        if self._fields > MAX_FIELDS:
            raise HeaderTooLarge(f"a request may have {MAX_FIELDS} header fields; got {self._fields}")
        if self._header_bytes > self._serving.max_header_bytes:
            raise self._header_too_large()

    def _end_with_error(self, error: CascadeError) -> None:
        """Queues an error as the last answer of the connection."""
        if not self._input_closed:
            head_only = self._phase is not _IDLE and self._is_head
            self._input_closed = self._lingers = True
            self._phase = _IDLE
            self._discard_body()
            self._waiting.append(RefusedRequest(error, head_only))

    @property
    def _is_head(self) -> bool:
        """Whether the method of the arriving request is HEAD, if it has arrived."""
        return bool(self._url) and self._parser.get_method() == b"HEAD"

    def _discard_body(self) -> None:
        """Discards the received part of a body."""
        self._release(sum(map(len, self._parts)))
        self._parts = []

    def _release(self, count: int) -> None:
        # A lost connection has already released everything, including the request that is being answered.
        count = min(count, self._held_bytes)
        self._held_bytes -= count
        self._bodies.release(count)

    def _advance(self) -> None:
        """Starts the next answer if none is in progress, closes when all is done, and sets the timer."""
        while self._waiting and self._answering is None and self._stalled_since is None:
            request = self._waiting.popleft()
            if isinstance(request, Request):
                self._answering = self._loop.create_task(self._answer(request))
            else:
                self._write(self._app.error_reply(request.error), request.head_only)
        reading = not self._waiting
        if reading is not self._reading:
            self._set_reading(reading)
        if self._input_closed and self._answering is None and not self._waiting and not self._transport.is_closing():
            if self._lingers:
                self._linger()
            else:
                self._close()
        self._set_timer()

    async def _answer(self, request: Request) -> None:
        try:
            reply = await self._app.answer(request)
        finally:
            self._answering = None
            self._release(len(request.body))
        self._write(reply, request.method == "HEAD")
        self._advance()

    def _write(self, reply: Reply, head_only: bool) -> None:
        self._transport.write(reply.encode(close=self._input_closed and not self._waiting, head_only=head_only))
        self._idle_s = self._serving.keep_alive_timeout_s
        if self._phase is _IDLE:
            self._phase_began = self._loop.time()

    def _set_reading(self, reading: bool) -> None:
        """Resumes reading, or pauses it until the earlier requests are answered."""
        self._reading = reading
        if self._transport.is_closing():
            return
        if reading:
            self._phase_began = self._loop.time()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _close(self) -> None:
        self._input_closed = True
        if self._transport.get_write_buffer_size() > 0 and self._stalled_since is None:
            self._stalled_since = self._loop.time()
        self._transport.close()

    def _linger(self) -> None:
        """Closes the sending direction, so that the client reads its answers; what it still sends is discarded."""
        if self._linger_until is None:
            self._linger_until = self._loop.time() + LINGER_S
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _deadline(self) -> float | None:
        """When the client will be too slow; ``None`` while the client waits for the gateway."""
        serving = self._serving
        if self._stalled_since is not None:
            return self._stalled_since + serving.body_timeout_s
        if self._linger_until is not None and not self._transport.is_closing():
            return self._linger_until
        if not self._reading or self._transport.is_closing():
            return None
        if self._phase is _BODY:
            return self._phase_began + serving.body_timeout_s
        if self._phase is _HEADER:
            return self._phase_began + serving.header_timeout_s
        return self._phase_began + self._idle_s if self._answering is None else None

    def _set_timer(self) -> None:
        """Makes sure that a timer ends at the deadline or before; an early timer is set again."""
        deadline = self._deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        deadline = self._deadline()
        if deadline is None or deadline > self._timer_at:
            self._set_timer()
        elif self._stalled_since is not None:
            self.abort()
        elif self._phase is _IDLE:
            self._close()
        else:
            part, limit_s = "body", self._serving.body_timeout_s
            if self._phase is _HEADER:
                part, limit_s = "header", self._serving.header_timeout_s
            self._end_with_error(RequestTooSlow(f"the {part} of the request did not arrive within {limit_s:g} s"))
            self._advance()

    def _header_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(f"the header of a request may have {self._serving.max_header_bytes} bytes")

    def _too_many_connections(self) -> Overloaded:
        return Overloaded(f"all {self._serving.max_connections} connections are in use; try again later")


def _path(target: bytes) -> str:
    """The decoded path of a request's target."""
    if target[:1] != b"/" or b"?" in target or b"%" in target:
        try:
            target = httptools.parse_url(target).path or b""
        except httptools.HttpParserInvalidURLError as error:
            raise MalformedRequest("the target of the request is not a path") from error
    return urllib.parse.unquote(target.decode("latin-1"))
