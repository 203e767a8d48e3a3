"""The HTTP application of a gateway: routes to handlers."""

import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from cascade.errors import CascadeError, RowsError
from cascade.serving.auth.guard import Guard
from cascade.serving.bodies.decoding import decoded
from cascade.serving.bodies.wire import IMAGE_TYPES, RAW_TYPE, content_kind, decode_rows
from cascade.serving.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    PolicyRefused,
    UnknownRoute,
    UnsupportedBody,
    UnsupportedEncoding,
)
from cascade.serving.http.dashboard import dashboard_page
from cascade.serving.http.openapi import openapi_document
from cascade.serving.http.reply import Reply, error_reply
from cascade.serving.http.routes import MODELS, served_routes
from cascade.serving.oip import inference as oip
from cascade.serving.oip.http_bodies import HEADER_LENGTH, decode_inference, encode_inference
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.request import Request
from cascade.serving.request_id import REQUEST_ID_HEADER, set_request_id
from cascade.serving.service import Service
from cascade.serving.telemetry.observations import Observations
from cascade.serving.telemetry.tracing import Tracing

__all__ = ["HttpApp"]

logger = logging.getLogger(__name__)

# Handlers of a model's routes also take a version.
Handler = Callable[..., Awaitable[Reply]]
Methods = dict[str, Handler]

MAX_ROLLBACK_BYTES = 1024


class HttpApp:
    """Answers the requests of :func:`cascade.serving.http.routes.served_routes`.

    Args:
        service: answers the rows.
        guard: checks the keys.
        stats: counts errors; ``None`` to count nothing.
        tracing: may continue the callers' traces; ``None`` without traces.
    """

    def __init__(
        self, service: Service, guard: Guard, stats: Observations | None = None, tracing: Tracing | None = None
    ) -> None:
        self.service = service
        self._guard = guard
        self._stats = stats
        self._tracing = tracing
        self._model = f"{MODELS}{service.config.name}"
        self._methods: dict[str, Methods] = {}
        for route in served_routes(service.config):
            if "{version}" not in route.path:
                path = route.path.replace("{name}", service.config.name)
                self._methods.setdefault(path, {})[route.method] = getattr(self, f"_{route.operation}")

    def admit(self, request: Request) -> None:
        """Checks a request whose body has not arrived yet.

        Raises:
            CascadeError: the request is refused.
        """
        self._guard.admit(request)
        self._handler(request.path, request.method)
        # Bodies are not decompressed: a few bytes could become gigabytes.
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise UnsupportedEncoding(
                f"content encoding {encoding[:40]!r} is not supported; send the body uncompressed"
            )
        length = request.headers.get("content-length", "0")
        most = self.service.config.serving.max_body_bytes
        if length.isdecimal() and (len(length) > 18 or int(length) > most):
            raise BodyTooLarge(f"a body may have {most} bytes; Content-Length is {length[:20]}")

    async def answer(self, request: Request) -> Reply:
        """Answers an admitted request with its body; every error becomes a status and one sentence."""
        if self._tracing is not None:
            self._tracing.accept_caller(request.headers.get("traceparent"))
        try:
            return await self._handler(request.path, request.method)(request)
        except CascadeError as error:
            return self.error_reply(error)
        except Exception:
            logger.exception("a request failed")
            if self._stats is not None:
                self._stats.refused(None)
            return Reply(b'{"error":"an internal error occurred"}', status=500)

    def error_reply(self, error: CascadeError) -> Reply:
        """Counts an error and returns its reply."""
        if self._stats is not None:
            self._stats.refused(error)
        return error_reply(error)

    def _handler(self, path: str, method: str) -> Handler:
        methods = self._methods.get(path) or self._versioned(path)
        # HEAD is answered like GET; the listeners omit the body.
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise MethodNotAllowed(f"{path[:100]!r} has the methods {allowed}; got {method[:20]!r}", allowed)
        return handler

    def _versioned(self, path: str) -> Methods:
        """The handlers of a path with a version: those of the path without it, with the version as an argument."""
        model, _, rest = path.partition("/versions/")
        version, slash, ending = rest.partition("/")
        methods = self._methods.get(model + slash + ending, {}) if model == self._model and version else {}
        if methods:
            return {method: functools.partial(handler, version=version) for method, handler in methods.items()}
        if path.startswith(MODELS):
            oip.check_model(self.service, path.removeprefix(MODELS).partition("/")[0])
        raise UnknownRoute(f"there is no path {path[:100]!r}; GET /openapi.json lists all paths")

    async def _predict(self, request: Request) -> Reply:
        headers = request.headers
        rows = await decoded(decode_rows, headers, request.body, self.service.config)
        set_request_id(headers.get(REQUEST_ID_HEADER))
        overrides = RequestOverrides(_timeout_s(headers), headers.get("x-max-stage"))
        answers = await self.service.answer_rows(rows, overrides)
        return Reply(orjson.dumps(answers))

    async def _detect(self, request: Request) -> Reply:
        kind = content_kind(request.headers)
        if kind not in IMAGE_TYPES:
            raise UnsupportedBody(f"content type {kind[:80]!r} is not supported; send {', '.join(IMAGE_TYPES)}")
        set_request_id(request.headers.get(REQUEST_ID_HEADER))
        overrides = RequestOverrides(_timeout_s(request.headers), request.headers.get("x-max-stage"))
        return Reply(orjson.dumps(await self.service.detect(request.body, overrides)))

    async def _health(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"status": "ok", "name": self.service.config.name}))

    async def _policy(self, *_: object) -> Reply:
        return Reply(orjson.dumps(self.service.describe_policy()))

    async def _replace_policy(self, request: Request) -> Reply:
        return _change_reply(await self.service.policies.replace(request.body.decode("utf-8", "replace")))

    async def _restore_policy(self, request: Request) -> Reply:
        return _change_reply(await self.service.policies.restore(_rollback_version(request.body)))

    async def _policy_history(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"history": await self.service.policies.history()}))

    async def _audit(self, *_: object) -> Reply:
        return Reply(orjson.dumps(self.service.describe_audit()))

    async def _dashboard(self, *_: object) -> Reply:
        return dashboard_page()

    async def _dashboard_data(self, *_: object) -> Reply:
        return Reply(orjson.dumps(self.service.describe_traffic()), headers=(("cache-control", "no-store"),))

    async def _openapi(self, *_: object) -> Reply:
        return Reply(orjson.dumps(openapi_document(self.service.config)))

    async def _server_metadata(self, *_: object) -> Reply:
        return Reply(orjson.dumps(oip.server_metadata()))

    async def _server_live(self, *_: object) -> Reply:
        return Reply(orjson.dumps({"live": True}))

    async def _server_ready(self, *_: object) -> Reply:
        ready = self.service.is_ready
        return Reply(orjson.dumps({"ready": ready}), status=_ready_status(ready))

    async def _model_metadata(self, *_: object, version: str | None = None) -> Reply:
        current = oip.check_model(self.service, self.service.config.name, version)
        return Reply(orjson.dumps(oip.model_metadata(self.service.config, current)))

    async def _model_ready(self, *_: object, version: str | None = None) -> Reply:
        oip.check_model(self.service, self.service.config.name, version)
        ready = self.service.is_ready
        return Reply(orjson.dumps({"name": self.service.config.name, "ready": ready}), status=_ready_status(ready))

    async def _model_infer(self, request: Request, version: str | None = None) -> Reply:
        oip.check_model(self.service, self.service.config.name, version)
        inference = await decoded(decode_inference, request.headers, request.body, self.service.config)
        answers = await oip.answer(self.service, inference, version)
        reply, json_bytes = encode_inference(inference, answers, self.service.config)
        if json_bytes is None:
            return Reply(reply)
        return Reply(reply, RAW_TYPE, headers=((HEADER_LENGTH, str(json_bytes)),))


def _ready_status(ready: bool) -> int:
    """The status of a readiness check; probes read nothing else."""
    return 200 if ready else 503


def _change_reply(result: dict[str, Any]) -> Reply:
    """Status 202 instead of 200 if some gateways do not have the policy yet."""
    return Reply(orjson.dumps(result), status=202 if result["behind"] else 200)


def _rollback_version(body: bytes) -> str | None:
    """The version in the body of a rollback; ``None`` for the previous one."""
    if len(body) > MAX_ROLLBACK_BYTES:
        raise PolicyRefused(f"the body of a rollback may have {MAX_ROLLBACK_BYTES} bytes; got {len(body)}")
    try:
        content = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise PolicyRefused(f"the body is not JSON: {error}") from error
    version = content.get("version") if isinstance(content, dict) and content.keys() <= {"version"} else 0
    if not isinstance(version, str | None):
        raise PolicyRefused('the body must be empty, or a JSON object {"version": "..."}')
    return version


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
        raise RowsError(f"X-Timeout-Ms must be a number of milliseconds greater than 0; got {text[:40]!r}")
    return timeout_ms / 1e3
