"""One connection of a listener: uvicorn's protocol, with limits on what a client may send and how slowly."""

import asyncio
import functools
import socket
import struct

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cascade.config import ServingConfig
from cascade.serving.asgi import App, Message, Receive, Send
from cascade.serving.errors import HeaderTooLarge, MalformedRequest, Overloaded, RequestError, RequestTooSlow
from cascade.serving.guard import is_health_path
from cascade.serving.refusal import refusal_bytes, refuse

__all__ = ["Connection"]

# What of a request arrives next. Plain numbers, since every request passes here several times.
_NOTHING, _HEADER, _BODY = range(3)

MAX_FIELDS = 100
MAX_PIPELINED = 100
_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
HEALTH_CONNECTIONS = 16
"""Taken beyond ``max_connections``, so that a full gateway does not look like a dead one."""


class Connection(HttpToolsProtocol):
    """Answers the requests of one connection.

    uvicorn bounds the time between two requests. Here are bounded: the time in which a header and a body arrive, the
    length of a header and how many fields it has, how many requests are sent ahead, how many connections are open, and
    the time in which an answer is taken. A client that breaks a bound, or sends what is not HTTP, gets an error where
    it cannot be taken for the answer to an earlier request; the connection is closed.

    In the usual case, a request that arrives whole, no timer is started.

    Args:
        config: uvicorn's.
        server_state: uvicorn's, of the server; it holds all open connections.
        serving: the limits.
    """

    def __init__(self, config: Config, server_state: ServerState, serving: ServingConfig) -> None:
        super().__init__(config, server_state, {})
        self._serving = serving
        self._phase = _NOTHING
        # Bytes that arrived since the parser last delivered something: an endless header, chunk size or trailer.
        self._undelivered = 0
        self._arrival_timer: asyncio.TimerHandle | None = None
        self._departure_timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self._is_surplus = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or refuses it where there are too many."""
        super().connection_made(transport)
        surplus = len(self.connections) - self._serving.max_connections
        if surplus > HEALTH_CONNECTIONS:
            self._refuse(_too_many_connections(self._serving))
            return
        if surplus > 0:
            self._is_surplus = True
            self.app = functools.partial(_health_only, self.app, self._serving)
        self._await_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything that waits for the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_arrival_timer()
        self._stop_departure_timer()

    def data_received(self, data: bytes) -> None:
        """Parses what came."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._undelivered += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request is answered as it is; what follows may be of another protocol.
            self._close_after_answers()
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, RequestError) else MalformedRequest("this is not HTTP/1.1"))
        else:
            if self._undelivered > self._serving.max_header_bytes:
                self._refuse(self._header_too_large())
            self._await_arrival()

    def on_message_begin(self) -> None:
        """A request begins to arrive."""
        self._phase = _HEADER
        self._stop_arrival_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Passes the request on."""
        if len(self.headers) > MAX_FIELDS:
            raise HeaderTooLarge(f"a request may have {MAX_FIELDS} header fields; {len(self.headers)} came")
        most = self._serving.max_header_bytes
        if self._undelivered > most and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > most:
            raise self._header_too_large()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise HeaderTooLarge(f"at most {MAX_PIPELINED} requests may be sent ahead")
        if self.parser.should_upgrade() and any(name in _BODY_FIELDS for name, _ in self.headers):
            # The parser takes the body for the other protocol's.
            raise MalformedRequest("only HTTP/1.1 is spoken here; leave the header Upgrade out")
        super().on_headers_complete()
        if self._is_surplus:
            self.cycle.keep_alive = False
        # Fields after the body would be added to those of a request that has been passed on.
        self.headers = []
        self._phase = _BODY
        self._undelivered = 0
        self._stop_arrival_timer()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._undelivered = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._phase = _NOTHING
        self._undelivered = 0
        self._stop_arrival_timer()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        super().pause_writing()
        self._await_departure()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_departure_timer()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        self._close()

    def shutdown(self) -> None:
        """The server stops: answers what has begun."""
        super().shutdown()
        if self.transport.is_closing():
            self._close()

    def _refuse(self, error: RequestError) -> None:
        """Closes the connection, with an error where it cannot be taken for the answer to another request."""
        if self.cycle is None or (self.cycle.response_complete and self._phase is not _BODY):
            self.transport.write(refusal_bytes(error))
            self._close()
        elif self.cycle.response_complete:
            self._close()
        elif self._phase is not _BODY:
            self._close_after_answers()
        elif self.pipeline or self.cycle.response_started:
            self._abort()
        else:
            # The application waits for the rest of the body, and must not answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.write(refusal_bytes(error))
            self._close()

    def _close(self) -> None:
        self._deaf = True
        self._stop_arrival_timer()
        if self.transport.get_write_buffer_size() > 0:
            self._await_departure()
        self.transport.close()

    def _abort(self) -> None:
        self._deaf = True
        # Without it the kernel goes on to offer what it has of the answers, for minutes.
        client: socket.socket = self.transport.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _close_after_answers(self) -> None:
        self._deaf = True
        self._stop_arrival_timer()
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self._close()

    def _await_arrival(self) -> None:
        """Bounds the time for whatever must arrive next."""
        if self._arrival_timer is not None or self._deaf:
            return
        if self._phase is _BODY:
            self._arrival_timer = self.loop.call_later(self._serving.body_timeout_s, self._arrives_late)
        elif self._phase is _HEADER or self.cycle is None or self.cycle.response_complete:
            self._arrival_timer = self.loop.call_later(self._serving.header_timeout_s, self._arrives_late)

    def _arrives_late(self) -> None:
        self._arrival_timer = None
        if self.flow.read_paused:
            # Not the client is slow: an earlier request is still being answered.
            self._await_arrival()
        elif self._phase is _NOTHING:
            self._close()
        else:
            part, limit_s = "body", self._serving.body_timeout_s
            if self._phase is _HEADER:
                part, limit_s = "header", self._serving.header_timeout_s
            self._refuse(RequestTooSlow(f"the {part} of the request did not arrive within {limit_s:g} s"))

    def _stop_arrival_timer(self) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _await_departure(self) -> None:
        """Bounds the time for whatever was written to leave."""
        if self._departure_timer is None:
            self._departure_timer = self.loop.call_later(self._serving.body_timeout_s, self._abort)

    def _stop_departure_timer(self) -> None:
        if self._departure_timer is not None:
            self._departure_timer.cancel()
            self._departure_timer = None

    def _header_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(f"the header of a request may have {self._serving.max_header_bytes} bytes")


async def _health_only(app: App, serving: ServingConfig, scope: Message, receive: Receive, send: Send) -> None:
    if is_health_path(scope["path"]):
        await app(scope, receive, send)
    else:
        await refuse(send, _too_many_connections(serving), close=True)


def _too_many_connections(serving: ServingConfig) -> Overloaded:
    return Overloaded(f"{serving.max_connections} connections are open already; try again later")
