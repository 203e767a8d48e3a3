"""A client that hangs up: nobody needs its answer any more."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar, cast

__all__ = ["while_connected"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
T = TypeVar("T")

# Most answers are there before; only for the others it is worth a task that watches the connection.
PATIENCE_S = 0.02


async def while_connected(receive: Receive, answering: Coroutine[Any, Any, T]) -> T:
    """Awaits an answer; cancels it when the client hangs up.

    Args:
        receive: of the ASGI request, whose body has been read.
        answering: what is awaited.

    Raises:
        ConnectionAbortedError: the client has gone.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    loop = asyncio.get_running_loop()
    watch: list[asyncio.Task[None]] = []
    gone = False

    async def wait_for_the_end() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    timer = loop.call_later(PATIENCE_S, lambda: watch.append(loop.create_task(wait_for_the_end())))
    try:
        return await answering
    except asyncio.CancelledError:
        if gone:
            raise ConnectionAbortedError from None
        raise
    finally:
        timer.cancel()
        for watching in watch:
            watching.cancel()
