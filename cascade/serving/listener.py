"""A listener of a replica's own: uvicorn on a port that several replicas share."""

import asyncio
import contextlib
import socket

import uvicorn

from cascade.config import ServingConfig
from cascade.serving.asgi import App
from cascade.serving.connection import Connection
from cascade.serving.tls import new_tls_context

__all__ = ["Listener"]

START_TIMEOUT_S = 10.0
BACKLOG = 2048


class Listener:
    """Serves an ASGI application until it is stopped.

    Args:
        app: the application.
        serving: address and port, TLS, limits. The port is shared by all replicas of a node (``SO_REUSEPORT``): the
            kernel spreads the connections.

    Raises:
        ConfigError: the certificate cannot be used.
    """

    def __init__(self, app: App, serving: ServingConfig) -> None:
        self._server = _Server(app, serving)
        self._host, self._port = serving.host, serving.port
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._task is not None and not self._task.done() and self._server.started

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the address cannot be bound.
            TimeoutError: the server does not come up.
        """
        self._task = asyncio.create_task(self._server.serve(sockets=[_shared_socket(self._host, self._port)]))
        for _ in range(int(START_TIMEOUT_S / 0.02)):
            if self._server.started:
                return
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.02)
        raise TimeoutError(f"the listener on {self._host}:{self._port} did not start in {START_TIMEOUT_S:g} s")

    async def stop(self) -> None:
        """Answers what was begun, then stops."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


class _Server(uvicorn.Server):
    """uvicorn's server, with connections that have limits, and a limit on the time of a TLS handshake."""

    def __init__(self, app: App, serving: ServingConfig) -> None:
        # Left to guess, uvicorn takes an object with an async __call__ for another interface and answers 500. Headers
        # that a proxy would set are not believed: nothing here asks where a request came from.
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=serving.keep_alive_timeout_s,
        )
        super().__init__(config)
        self._serving = serving
        self._tls = new_tls_context(serving)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = None if self._tls is None else self._serving.header_timeout_s
        self.servers = [
            await loop.create_server(
                self._new_connection, sock=each, ssl=self._tls, ssl_handshake_timeout=timeout_s, backlog=BACKLOG
            )
            for each in sockets or ()
        ]
        self.started = True

    def _new_connection(self) -> Connection:
        return Connection(self.config, self.server_state, self._serving)


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
