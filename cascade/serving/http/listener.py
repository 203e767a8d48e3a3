"""The HTTP listener of a replica, on a port that the replicas of a node share."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import time

from cascade.config import ServingConfig
from cascade.serving.auth.tls import new_tls_context
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.http.connection import App, Connection

__all__ = ["Listener"]

BACKLOG = 2048
POLL_S = 0.02
ACCEPT_S = 0.1
"""How long a stopping listener accepts connections whose handshake has begun."""
LAST_REQUESTS_S = 1.0
"""How long a stopping listener waits for a last request on each open connection."""

SO_ATTACH_FILTER = 26
# Classic BPF, (code, jump if true, jump if false, value): byte 13 of a TCP header has the flags; 2 is SYN.
DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


class Listener:
    """Serves an application over HTTP/1.1 until it is stopped.

    Args:
        app: answers the requests.
        serving: address and port, TLS, limits. The port is shared by all replicas of a node (``SO_REUSEPORT``): the
            kernel distributes the connections.
        bodies: bound of the bytes of all bodies, shared with the process's other listener; by default its own.

    Raises:
        ConfigError: the certificate cannot be used.
    """

    def __init__(self, app: App, serving: ServingConfig, bodies: PendingBodies | None = None) -> None:
        self.port = serving.port
        self._app = app
        self._serving = serving
        self._tls = new_tls_context(serving)
        self._connections: set[Connection] = set()
        self._bodies = bodies or PendingBodies(serving.max_pending_body_bytes)
        self._server: asyncio.Server | None = None

    @property
    def alive(self) -> bool:
        """Whether the listener accepts connections."""
        return self._server is not None and self._server.is_serving()

    async def start(self) -> None:
        """Starts to listen.

        Raises:
            OSError: the address cannot be bound.
        """
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._app, self._serving, self._connections, self._bodies),
            sock=_shared_socket(self._serving.host, self._serving.port),
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else self._serving.header_timeout_s,
            backlog=BACKLOG,
        )

    async def stop(self) -> None:
        """Answers every request that has arrived or is arriving, then stops.

        New connections are refused. An open connection may send one more request, whose answer has "connection: close";
        without a request it is closed after :data:`LAST_REQUESTS_S`. Requests that exceed
        ``serving.request_timeout_s`` are aborted.
        """
        if self._server is None:
            return
        for listening in self._server.sockets:
            _refuse_connections(listening)
        await self._wait_until_closed(LAST_REQUESTS_S)  # begun handshakes are accepted meanwhile
        self._server.close()
        for connection in tuple(self._connections):
            connection.finish()
        await self._wait_until_closed(self._serving.request_timeout_s)
        for connection in tuple(self._connections):
            connection.abort()

    async def _wait_until_closed(self, timeout_s: float) -> None:
        """Waits until all connections are closed; connections accepted meanwhile may send one request each."""
        end = time.monotonic() + timeout_s
        accepted_until = time.monotonic() + ACCEPT_S
        while (now := time.monotonic()) < end and (self._connections or now < accepted_until):
            for connection in tuple(self._connections):
                connection.retire()
            await asyncio.sleep(POLL_S)


def _refuse_connections(listening: socket.socket) -> None:
    """Refuses new connections without resetting begun handshakes, as closing the socket would.

    The filter drops SYN packets. The client sends them again, and is refused once the socket is closed, or reaches
    another gateway.
    """
    with contextlib.suppress(OSError):  # not Linux
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in DROP_SYN))
        filter_ = struct.pack("HL", len(DROP_SYN), ctypes.addressof(program))
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)


def _shared_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
