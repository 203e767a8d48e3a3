"""The HTTP face of a gateway: a raw ASGI application."""

import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import orjson

from cascade.errors import CascadeError, RowsError
from cascade.serving import oip
from cascade.serving.asgi import Message, Receive, Send
from cascade.serving.disconnect import while_connected
from cascade.serving.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    UnknownRoute,
    UnsupportedEncoding,
    http_headers,
    http_status,
)
from cascade.serving.oip_http import HEADER_LENGTH, decode_inference, encode_inference
from cascade.serving.openapi import openapi_document
from cascade.serving.routes import MODELS, ROUTES
from cascade.serving.service import Service
from cascade.serving.wire import JSON_TYPE, RAW_TYPE, decode_rows

__all__ = ["HttpApp"]

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """A response that is not an error."""

    body: bytes
    kind: str = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()


# Handlers of a model's routes also take a version.
Handler = Callable[..., Awaitable[Reply]]
Methods = dict[str, Handler]


class HttpApp:
    """ASGI application with the routes of :data:`cascade.serving.routes.ROUTES`.

    Args:
        service: answers the requests.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._model = f"{MODELS}{service.config.name}"
        self._methods: dict[str, Methods] = {}
        for route in ROUTES:
            if "{version}" not in route.path:
                path = route.path.replace("{name}", service.config.name)
                self._methods.setdefault(path, {})[route.method] = getattr(self, f"_{route.operation}")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; every error becomes a status and one sentence."""
        if scope["type"] != "http":
            return
        headers: list[tuple[bytes, bytes]] = []
        try:
            reply = await self._handler(scope["path"], scope["method"])(scope, receive)
            status, headers = 200, [*reply.headers]
        except CascadeError as error:
            reply, status, headers = _error(str(error)), http_status(error), http_headers(error)
        except ConnectionAbortedError:
            return
        except Exception:
            logger.exception("a request failed")
            reply, status = _error("an internal error occurred"), 500
        headers.append((b"content-type", reply.kind.encode()))
        headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _handler(self, path: str, method: str) -> Handler:
        methods = self._methods.get(path) or self._versioned(path)
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join(methods)
            raise MethodNotAllowed(f"{path[:100]!r} is asked with {allowed}, not {method[:20]!r}", allowed)
        return handler

    def _versioned(self, path: str) -> Methods:
        """What a path with a version has: that of the path without it, asked for this version."""
        model, _, rest = path.partition("/versions/")
        version, slash, ending = rest.partition("/")
        methods = self._methods.get(model + slash + ending, {}) if model == self._model and version else {}
        if methods:
            return {method: functools.partial(handler, version=version) for method, handler in methods.items()}
        if path.startswith(MODELS):
            oip.check_model(self.service, path.removeprefix(MODELS).partition("/")[0])
        raise UnknownRoute(f"there is no {path[:100]!r}; GET /openapi.json says what there is")

    async def _predict(self, scope: Message, receive: Receive) -> Reply:
        headers, body = await self._read(scope, receive)
        rows = decode_rows(headers, body, self.service.config)
        answering = self.service.answer_rows(rows, timeout_s=_timeout_s(headers))
        return Reply(orjson.dumps(await while_connected(receive, answering)))

    async def _health(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"status": "ok", "name": self.service.config.name}))

    async def _policy(self, *_: object) -> Reply:
        return Reply(orjson.dumps(self.service.describe_policy()))

    async def _openapi(self, *_: object) -> Reply:
        return Reply(orjson.dumps(openapi_document(self.service.config)))

    async def _server_metadata(self, *_: object) -> Reply:
        return Reply(orjson.dumps(oip.server_metadata()))

    async def _server_live(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"live": True}))

    async def _server_ready(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"ready": True}))

    async def _model_metadata(self, *_: object, version: str | None = None) -> Reply:
        current = oip.check_model(self.service, self.service.config.name, version)
        return Reply(orjson.dumps(oip.model_metadata(self.service.config, current)))

    async def _model_ready(self, *_: object, version: str | None = None) -> Reply:
        oip.check_model(self.service, self.service.config.name, version)
        return Reply(orjson.dumps({"name": self.service.config.name, "ready": True}))

    async def _model_infer(self, scope: Message, receive: Receive, version: str | None = None) -> Reply:
        oip.check_model(self.service, self.service.config.name, version)
        headers, body = await self._read(scope, receive)
        inference = decode_inference(headers, body, self.service.config)
        answers = await while_connected(receive, oip.answer(self.service, inference, version))
        reply, json_bytes = encode_inference(inference, answers, self.service.config)
        if json_bytes is None:
            return Reply(reply)
        return Reply(reply, RAW_TYPE, ((HEADER_LENGTH.encode(), str(json_bytes).encode()),))

    async def _read(self, scope: Message, receive: Receive) -> tuple[dict[str, str], bytes]:
        """The headers, with lower-case names, and the whole body."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # Nothing is decompressed: a few bytes could become gigabytes.
        encoding = headers.get("content-encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise UnsupportedEncoding(f"content encoding {encoding[:40]!r} is not read; send the body as it is")
        return headers, await _read_body(headers, receive, self.service.config.serving.max_body_bytes)


def _error(message: str) -> Reply:
    return Reply(orjson.dumps({"error": message}))


def _timeout_s(headers: Mapping[str, str]) -> float | None:
    """Seconds in the header X-Timeout-Ms."""
    text = headers.get("x-timeout-ms")
    if text is None:
        return None
    try:
        timeout_ms = float(text)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms < math.inf:
        raise RowsError(f"X-Timeout-Ms must be a number of milliseconds above 0; got {text[:40]!r}")
    return timeout_ms / 1e3


async def _read_body(headers: Mapping[str, str], receive: Receive, most: int) -> bytes:
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
