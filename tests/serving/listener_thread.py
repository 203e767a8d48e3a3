"""A listener in a thread of its own, for tests over sockets."""

import asyncio
import contextlib
import threading

import uvloop
from serving_process import free_port

from cascade.serving.http.listener import Listener


@contextlib.contextmanager
def listening(app, serving, new_loop=uvloop.new_event_loop, bodies=None):
    """Yields the port of a listener, which is stopped at the end.

    Args:
        app: the application.
        serving: the configuration; its port is replaced by a free one.
        new_loop: makes the event loop.
        bodies: the bytes of all bodies; by default the listener's own.
    """
    serving = serving.model_copy(update={"port": free_port()})
    listener, loop = Listener(app, serving, bodies), new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(listener.start(), loop).result(20)
        try:
            yield serving.port
        finally:
            asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(20)
        assert not listener.alive
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def rest(client):
    """The bytes that a server sends until it closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            received += part
    return received
