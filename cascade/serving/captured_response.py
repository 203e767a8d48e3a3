"""An ASGI application behind a caller that wants a response object."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["captured_response"]

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

CLIENT_CLOSED_REQUEST = 499


async def captured_response(app: App, request: Request) -> Response:
    """What an application answers to a request.

    Args:
        app: sends a whole response, or nothing if the client has gone.
        request: as Ray Serve's proxy hands it over.
    """
    response = Response(status_code=CLIENT_CLOSED_REQUEST)
    parts: list[bytes] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.status_code = message["status"]
            response.raw_headers = list(message["headers"])
        else:
            parts.append(message.get("body", b""))

    await app(request.scope, request.receive, send)
    response.body = b"".join(parts)
    return response
