"""A listener of a replica's own, on a port that several replicas share."""

import asyncio
import socket

from cascade.config import ServingConfig
from cascade.serving.connection import App, Connection
from cascade.serving.pending_bodies import PendingBodies
from cascade.serving.tls import new_tls_context

__all__ = ["Listener"]

BACKLOG = 2048
LOOK_S = 0.02


class Listener:
    """Serves an application over HTTP/1.1 until it is stopped.

    Args:
        app: answers the requests.
        serving: address and port, TLS, limits. The port is shared by all replicas of a node (``SO_REUSEPORT``): the
            kernel spreads the connections.
        bodies: the bytes of all bodies under way, shared with whoever else takes requests in the process; by default
            the listener's own.

    Raises:
        ConfigError: the certificate cannot be used.
    """

    def __init__(self, app: App, serving: ServingConfig, bodies: PendingBodies | None = None) -> None:
        self._app = app
        self._serving = serving
        self._tls = new_tls_context(serving)
        self._connections: set[Connection] = set()
        self._bodies = bodies or PendingBodies(serving.max_pending_body_bytes)
        self._server: asyncio.Server | None = None

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._server is not None and self._server.is_serving()

    async def start(self) -> None:
        """Begins to listen.

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
        """Answers what was begun, then stops; what takes longer than a request may is cut off."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.finish()
        for _ in range(int(self._serving.request_timeout_s / LOOK_S)):
            if not self._connections:
                break
            await asyncio.sleep(LOOK_S)
        for connection in tuple(self._connections):
            connection.abort()


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
