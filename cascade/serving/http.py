"""The HTTP face of a gateway: a raw ASGI application."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import numpy as np
import orjson

from cascade.config import CascadeConfig
from cascade.errors import CascadeError
from cascade.serving.asgi import Message, Receive, Send
from cascade.serving.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    MethodNotAllowed,
    Overloaded,
    UnknownRoute,
    http_status,
)
from cascade.serving.wire import decode_rows

__all__ = ["HttpApp", "Service"]

RETRY_AFTER_S = 1
logger = logging.getLogger(__name__)


class Service(Protocol):
    """What is behind the application."""

    config: CascadeConfig

    async def answer_rows(self, rows: np.ndarray) -> dict[str, Any]:
        """Answers checked rows, as columns."""

    def describe_policy(self) -> dict[str, Any]:
        """The policy in force."""


class HttpApp:
    """ASGI application: ``POST /predict``, ``GET /health``, ``GET /policy``.

    Args:
        service: answers the requests.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._routes: dict[str, tuple[str, Callable[[Message, Receive], Awaitable[dict[str, Any]]]]] = {
            "/predict": ("POST", self._predict),
            "/health": ("GET", self._health),
            "/policy": ("GET", self._policy),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; every error becomes a status and one sentence."""
        if scope["type"] != "http":
            return
        headers: list[tuple[bytes, bytes]] = []
        try:
            status, content = 200, await self._route(scope, receive)
        except CascadeError as error:
            status, content = http_status(error), {"error": str(error)}
            if isinstance(error, Overloaded):
                headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
            if isinstance(error, BodyTooLarge):
                headers.append((b"connection", b"close"))
        except ConnectionAbortedError:
            return
        except Exception:
            logger.exception("a request failed")
            status, content = 500, {"error": "an internal error occurred"}
        await _respond(send, status, content, headers)

    async def _route(self, scope: Message, receive: Receive) -> dict[str, Any]:
        method, handler = self._routes.get(scope["path"], ("", None))
        if handler is None:
            raise UnknownRoute(f"there is no {scope['path'][:100]!r}; there are {', '.join(self._routes)}")
        if scope["method"] != method:
            raise MethodNotAllowed(f"{scope['path']} is asked with {method}, not {scope['method'][:20]}")
        return await handler(scope, receive)

    async def _predict(self, scope: Message, receive: Receive) -> dict[str, Any]:
        serving = self.service.config.serving
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _read_body(headers, receive, serving.max_body_bytes)
        rows = decode_rows(headers, body, self.service.config)
        try:
            return await asyncio.wait_for(self.service.answer_rows(rows), serving.request_timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {serving.request_timeout_s:g} s") from error

    async def _health(self, *_: object) -> dict[str, Any]:
        return {"status": "ok", "name": self.service.config.name}

    async def _policy(self, *_: object) -> dict[str, Any]:
        return self.service.describe_policy()


async def _read_body(headers: dict[str, str], receive: Receive, most: int) -> bytes:
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > most):
        raise BodyTooLarge(f"a body may have {most} bytes; {announced[:20]} were announced")
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise BodyTooLarge(f"a body may have {most} bytes; more came")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _respond(send: Send, status: int, content: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    body = orjson.dumps(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
