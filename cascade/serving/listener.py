"""A listener of a replica's own: uvicorn on a port that several replicas share."""

import asyncio
import contextlib
import socket
from typing import Any

import uvicorn

__all__ = ["Listener"]

START_TIMEOUT_S = 10.0
BACKLOG = 2048


class Listener:
    """Serves an ASGI application until it is stopped.

    Args:
        app: the application.
        host: address to bind to.
        port: shared by all replicas of a node (``SO_REUSEPORT``): the kernel spreads the connections.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        # Left to guess, uvicorn takes an object with an async __call__ for another interface and answers 500.
        config = uvicorn.Config(
            app, interface="asgi3", lifespan="off", ws="none", access_log=False, log_level="warning", backlog=BACKLOG
        )
        self._server = uvicorn.Server(config)
        self._host, self._port = host, port
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
