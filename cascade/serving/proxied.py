"""The application behind Ray Serve's own proxy."""

from starlette.requests import Request as ProxiedRequest
from starlette.responses import Response

from cascade.config import ServingConfig
from cascade.errors import CascadeError
from cascade.serving.connection import App
from cascade.serving.errors import BodyTooLarge
from cascade.serving.request import Request

__all__ = ["proxied_response"]


async def proxied_response(app: App, serving: ServingConfig, proxied: ProxiedRequest) -> Response:
    """What an application answers to a request.

    Args:
        app: answers.
        serving: the limits.
        proxied: as Ray Serve's proxy hands it over; Ray Serve cancels this call when the client goes away.
    """
    request = Request(proxied.method, proxied.scope["path"], _headers(proxied))
    try:
        app.admit(request)
        request.body = await _body(proxied, serving.max_body_bytes)
    except CascadeError as error:
        reply = app.refuse(error)
    else:
        reply = await app.answer(request)
    return Response(reply.body, reply.status, dict(reply.headers), reply.kind)


def _headers(proxied: ProxiedRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in proxied.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(proxied: ProxiedRequest, most: int) -> bytes:
    parts, size = [], 0
    async for part in proxied.stream():
        parts.append(part)
        size += len(part)
        if size > most:
            raise BodyTooLarge(f"a body may have {most} bytes; more came")
    return b"".join(parts)
