"""A refusal: a status and one sentence, through ASGI or as plain bytes."""

from http import HTTPStatus

import orjson

from cascade.errors import CascadeError
from cascade.serving.asgi import Send
from cascade.serving.errors import http_headers, http_status

__all__ = ["refusal_bytes", "refuse"]


async def refuse(send: Send, error: CascadeError, close: bool = False) -> None:
    """Answers an ASGI request with an error.

    Args:
        send: of the request.
        error: why; its text is sent.
        close: whether the connection is closed after it.
    """
    headers, body = _headers_and_body(error, close)
    await send({"type": "http.response.start", "status": http_status(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refusal_bytes(error: CascadeError) -> bytes:
    """The whole HTTP/1.1 response of an error, for a connection that is closed after it."""
    headers, body = _headers_and_body(error, close=True)
    status = HTTPStatus(http_status(error))
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % pair for pair in headers), b"", body]
    return b"\r\n".join(lines)


def _headers_and_body(error: CascadeError, close: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    body = orjson.dumps({"error": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += http_headers(error)
    if close and (b"connection", b"close") not in headers:
        headers.append((b"connection", b"close"))
    return headers, body
