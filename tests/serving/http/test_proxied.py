"""Requests from Ray Serve's proxy: the same application, the same limits of bodies."""

import asyncio

import pytest
from local_service import ConstantService
from starlette.requests import ClientDisconnect, Request

from cascade.serving.auth.guard import Guard
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.http.http_app import HttpApp
from cascade.serving.http.proxied import proxied_response


def ask(config, bodies, *parts, method="POST", path="/predict", broken=False):
    """The response to a request whose body arrives in parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.disconnect"} if broken else {"type": "http.request", "body": b""})

    async def receive():
        return messages.pop(0)

    headers = [(b"content-type", b"application/octet-stream")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    app = HttpApp(ConstantService(config), Guard())
    return asyncio.run(proxied_response(app, config.serving, bodies, Request(scope, receive)))


@pytest.mark.parametrize(
    ("parts", "held", "status"),
    [([b"\0" * 8] * 2, 0, 200), ([b"\0" * 8] * 2, 990, 503), ([b"\0" * 3000] * 2, 0, 413), ([b"abc"], 0, 400)],
)
def test_bodies_are_bounded_one_by_one_and_together_and_released(config, parts, held, status):
    bodies = PendingBodies(1000 if held else 100_000)
    bodies.hold(held)
    response = ask(config, bodies, *parts)
    assert (response.status_code, bodies.held_bytes) == (status, held)
    assert (response.headers.get("retry-after") == "1") == (status == 503)


def test_a_disconnected_client_holds_no_bytes(config):
    bodies = PendingBodies(100_000)
    with pytest.raises(ClientDisconnect):
        ask(config, bodies, b"abc", broken=True)
    assert bodies.held_bytes == 0
