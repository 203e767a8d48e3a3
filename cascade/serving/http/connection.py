"""One connection of a listener: HTTP/1.1, with limits on what a client may send and how slowly."""

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

# What of a request arrives next. Plain numbers, since every request passes here several times.
_NOTHING, _HEADER, _BODY = range(3)

VERSIONS = ("1.1", "1.0")
MAX_FIELDS = 100
MAX_PIPELINED = 100
HEALTH_CONNECTIONS = 16
"""Taken beyond ``max_connections``, so that a full gateway does not look like a dead one."""
LINGER_S = 2.0
LINGER_BYTES = 64 << 20
"""How long, and how much, a client may go on sending after its last answer. A connection that is closed while bytes
arrive is reset, and the answer is lost with it (RFC 9112, section 9.6)."""


class Refusal(NamedTuple):
    """A request that is refused.

    Attributes:
        error: why.
        head_only: whether it was HEAD, whose answer has no body.
    """

    error: CascadeError
    head_only: bool


class App(Protocol):
    """Answers requests."""

    def admit(self, request: Request) -> None:
        """Looks at a request whose body has not come yet.

        Raises:
            CascadeError: it is refused.
        """

    async def answer(self, request: Request) -> Reply:
        """Answers a whole request that was admitted; every error becomes a reply."""

    def refuse(self, error: CascadeError) -> Reply:
        """What is said to a request that was not admitted, or never was whole."""


class Connection(asyncio.Protocol):
    """Answers the requests of one connection, in their order.

    A request is passed on when it is whole. Bounded are: the time in which a header and a body arrive, and between two
    requests; the length of a header, how many fields it has, the length of a body, the bodies of all connections
    together; how many requests are sent ahead; how many connections are open; and the time in which an answer is taken.
    A client that breaks a bound, or sends what is not HTTP, gets an error after the answers to what it sent before; the
    connection is closed, once the client has read the error or some time has passed. When the client goes away, no
    stage works on its request any more.

    Args:
        app: answers the requests.
        serving: the limits.
        connections: all open ones of the listener; this one is in it while it is open.
        bodies: the bytes that all connections hold.
    """

    def __init__(self, app: App, serving: ServingConfig, connections: "set[Connection]", bodies: PendingBodies) -> None:
        self._app = app
        self._serving = serving
        self._connections = connections
        self._bodies = bodies
        self._parser = httptools.HttpRequestParser(self)
        self._is_surplus = False
        # What arrives.
        self._phase = _NOTHING
        self._url = b""
        self._headers: dict[str, str] = {}
        self._fields = 0
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._held_bytes = 0
        # Bytes that arrived since the parser last delivered something: an endless header, chunk size or trailer.
        self._undelivered = 0
        self._request: Request | Refusal | None = None
        self._deaf = False
        self._retiring = False
        # What waits and what is being answered.
        self._waiting: deque[Request | Refusal] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._reads = True
        # When the client is late.
        self._since = 0.0
        self._idle_s: float = serving.header_timeout_s
        self._stalled_since: float | None = None
        # After the last answer: whether more may be coming, until when it is thrown away, and how much of it.
        self._lingers = False
        self._linger_until: float | None = None
        self._thrown_away = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or refuses it where there are too many."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._connections.add(self)
        self._since = self._loop.time()
        surplus = len(self._connections) - self._serving.max_connections
        self._is_surplus = surplus > 0
        if surplus > HEALTH_CONNECTIONS:
            self._refuse(self._too_many_connections())
            self._lingers = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        """Ends everything that waits for the connection."""
        self._deaf = True
        self._connections.discard(self)
        self._waiting.clear()
        self._parts = []
        self._release(self._held_bytes)
        if self._answering is not None:
            self._answering.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Takes what came."""
        if not self._deaf:
            self._parse(data)
            self._go_on()
        elif self._linger_until is not None:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self._transport.close()

    def _parse(self, data: bytes) -> None:
        self._undelivered += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as it is; what follows may be of another protocol.
            self._deaf = self._lingers = True
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, CascadeError) else MalformedRequest("this is not HTTP/1.1"))
        else:
            if self._undelivered > self._serving.max_header_bytes:
                self._refuse(self._header_too_large())

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        self._phase = _HEADER
        self._since = self._loop.time()
        self._url = b""
        self._headers = {}
        self._fields = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the header, or of a trailer, of which only the size is looked at."""
        self._fields += 1
        self._header_bytes += len(name) + len(value) + 4
        if self._phase is _BODY:
            self._check_header_size()
        else:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """The header is here."""
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
            # The body of another request that is refused is read, but not kept.
            if expects or isinstance(error, BodyTooLarge):
                raise
            self._request = Refusal(error, self._is_head)
        if expects and self._answering is None and not self._waiting:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._phase = _BODY
        self._since = self._loop.time()
        self._parts = []
        self._body_bytes = 0
        self._undelivered = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._undelivered = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._serving.max_body_bytes:
            raise BodyTooLarge(f"a body may have {self._serving.max_body_bytes} bytes; more came")
        if not isinstance(self._request, Request):
            return
        try:
            self._bodies.hold(len(body))
        except Overloaded as error:
            self._request = Refusal(error, self._is_head)
            self._forget_body()
            return
        self._held_bytes += len(body)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._phase = _NOTHING
        self._undelivered = 0
        request = self._request
        if request is None or self._deaf:
            return
        if isinstance(request, Request):
            request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._waiting.append(request)
        last = self._retiring or self._is_surplus or not self._parser.should_keep_alive()
        if last or self._parser.get_http_version() == "1.0":
            self._deaf = True
            # With TLS a client cannot be told that nothing more comes without closing both ways.
            self._lingers = not self._is_surplus and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._stalled_since = self._loop.time()
        self._watch()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        if not self._transport.is_closing():
            self._stalled_since = None
            self._go_on()

    def retire(self) -> None:
        """Takes one more request at most, if none is being answered; the last answer tells the client that it is."""
        self._retiring = True
        if self._answering is not None or self._waiting:
            self._deaf = True
            self._phase = _NOTHING

    def finish(self) -> None:
        """Answers what has come or is arriving, then closes."""
        self.retire()
        if self._phase is _NOTHING:
            self._deaf = True
        self._go_on()

    def abort(self) -> None:
        """Closes at once."""
        self._deaf = True
        client: socket.socket | None = self._transport.get_extra_info("socket")
        if client is not None:
            # Without it the kernel goes on to offer what it has of the answers, for minutes.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _check_header(self) -> None:
        self._check_header_size()
        if self._parser.get_http_version() not in VERSIONS:
            raise MalformedRequest("only HTTP/1.1 is spoken here")
        if "," in self._headers.get("host", ""):
            raise MalformedRequest("a request may have one header Host")
        if len(self._waiting) >= MAX_PIPELINED:
            raise HeaderTooLarge(f"at most {MAX_PIPELINED} requests may be sent ahead")
        if self._parser.should_upgrade() and not self._headers.keys().isdisjoint(
            ("content-length", "transfer-encoding")
        ):
            # The parser takes the body for the other protocol's.
            raise MalformedRequest("only HTTP/1.1 is spoken here; leave the header Upgrade out")

    def _check_header_size(self) -> None:
        if self._fields > MAX_FIELDS:
            raise HeaderTooLarge(f"a request may have {MAX_FIELDS} header fields; {self._fields} came")
        if self._header_bytes > self._serving.max_header_bytes:
            raise self._header_too_large()

    def _refuse(self, error: CascadeError) -> None:
        """The last answer of this connection."""
        if not self._deaf:
            head_only = self._phase is not _NOTHING and self._is_head
            self._deaf = self._lingers = True
            self._phase = _NOTHING
            self._forget_body()
            self._waiting.append(Refusal(error, head_only))

    @property
    def _is_head(self) -> bool:
        """Whether the request that arrives is HEAD, as far as its method has arrived."""
        return bool(self._url) and self._parser.get_method() == b"HEAD"

    def _forget_body(self) -> None:
        """Lets go of what arrived of a body."""
        self._release(sum(map(len, self._parts)))
        self._parts = []

    def _release(self, count: int) -> None:
        # A connection that is lost has released all that it held, also what is still being answered.
        count = min(count, self._held_bytes)
        self._held_bytes -= count
        self._bodies.release(count)

    def _go_on(self) -> None:
        """Answers what waits, if nothing is being answered, and watches over what comes next."""
        while self._waiting and self._answering is None and self._stalled_since is None:
            request = self._waiting.popleft()
            if isinstance(request, Request):
                self._answering = self._loop.create_task(self._answer(request))
            else:
                self._write(self._app.refuse(request.error), request.head_only)
        reads = not self._waiting
        if reads is not self._reads:
            self._let_read(reads)
        if self._deaf and self._answering is None and not self._waiting and not self._transport.is_closing():
            if self._lingers:
                self._linger()
            else:
                self._close()
        self._watch()

    async def _answer(self, request: Request) -> None:
        try:
            reply = await self._app.answer(request)
        finally:
            self._answering = None
            self._release(len(request.body))
        self._write(reply, request.method == "HEAD")
        self._go_on()

    def _write(self, reply: Reply, head_only: bool) -> None:
        self._transport.write(reply.encode(close=self._deaf and not self._waiting, head_only=head_only))
        self._idle_s = self._serving.keep_alive_timeout_s
        if self._phase is _NOTHING:
            self._since = self._loop.time()

    def _let_read(self, reads: bool) -> None:
        """Reads on, or lets the client wait until its earlier requests are answered."""
        self._reads = reads
        if self._transport.is_closing():
            return
        if reads:
            self._since = self._loop.time()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _close(self) -> None:
        self._deaf = True
        if self._transport.get_write_buffer_size() > 0 and self._stalled_since is None:
            self._stalled_since = self._loop.time()
        self._transport.close()

    def _linger(self) -> None:
        """Ends the answers, and lets the client read them while what it still sends is thrown away."""
        if self._linger_until is None:
            self._linger_until = self._loop.time() + LINGER_S
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _deadline(self) -> float | None:
        """When the client is late; ``None`` while it waits itself."""
        serving = self._serving
        if self._stalled_since is not None:
            return self._stalled_since + serving.body_timeout_s
        if self._linger_until is not None and not self._transport.is_closing():
            return self._linger_until
        if not self._reads or self._transport.is_closing():
            return None
        if self._phase is _BODY:
            return self._since + serving.body_timeout_s
        if self._phase is _HEADER:
            return self._since + serving.header_timeout_s
        return self._since + self._idle_s if self._answering is None else None

    def _watch(self) -> None:
        """Makes sure that a timer ends not later than the deadline; where it ends earlier, it looks again."""
        deadline = self._deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        deadline = self._deadline()
        if deadline is None or deadline > self._timer_at:
            self._watch()
        elif self._stalled_since is not None:
            self.abort()
        elif self._phase is _NOTHING:
            self._close()
        else:
            part, limit_s = "body", self._serving.body_timeout_s
            if self._phase is _HEADER:
                part, limit_s = "header", self._serving.header_timeout_s
            self._refuse(RequestTooSlow(f"the {part} of the request did not arrive within {limit_s:g} s"))
            self._go_on()

    def _header_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(f"the header of a request may have {self._serving.max_header_bytes} bytes")

    def _too_many_connections(self) -> Overloaded:
        return Overloaded(f"{self._serving.max_connections} connections are open already; try again later")


def _path(target: bytes) -> str:
    """The path of a request's target, decoded."""
    if target[:1] != b"/" or b"?" in target or b"%" in target:
        try:
            target = httptools.parse_url(target).path or b""
        except httptools.HttpParserInvalidURLError as error:
            raise MalformedRequest("the target of the request is not a path") from error
    return urllib.parse.unquote(target.decode("latin-1"))
