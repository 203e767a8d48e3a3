"""Requests that arrive through Ray Serve's own proxy."""

from starlette.requests import Request as ProxiedRequest
from starlette.responses import Response

from cascade.config import ServingConfig
from cascade.errors import CascadeError
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import BodyTooLarge
from cascade.serving.http.connection import App
from cascade.serving.request import Request

__all__ = ["proxied_response"]


async def proxied_response(
    app: App, serving: ServingConfig, bodies: PendingBodies, proxied: ProxiedRequest
) -> Response:
    """Answers a request of Ray Serve's proxy.

    Args:
        app: answers the request.
        serving: the limits.
        bodies: bound of the bytes of all bodies.
        proxied: the request; Ray Serve cancels this call when the client disconnects.
    """
    request = Request(proxied.method, proxied.scope["path"], _headers(proxied))
    parts: list[bytes] = []
    held_bytes = 0
    try:
        app.admit(request)
        async for part in proxied.stream():
            bodies.hold(len(part))
            held_bytes += len(part)
            parts.append(part)
            if held_bytes > serving.max_body_bytes:
                raise BodyTooLarge(f"a body may have {serving.max_body_bytes} bytes; this one has more")
        request.body = b"".join(parts)
        reply = await app.answer(request)
    except CascadeError as error:
        reply = app.error_reply(error)
    finally:
        bodies.release(held_bytes)
    return Response(reply.body, reply.status, dict(reply.headers), reply.kind)


def _headers(proxied: ProxiedRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in proxied.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
