"""The HTTP responses of a gateway."""

import functools
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import orjson

from cascade.errors import CascadeError
from cascade.serving.bodies.wire import JSON_TYPE
from cascade.serving.errors import http_headers, http_status

__all__ = ["Reply", "error_reply"]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Reply(NamedTuple):
    """A response.

    Attributes:
        body: bytes of the body.
        kind: content type.
        status: HTTP status.
        headers: further headers, names in lower case.
    """

    body: bytes
    kind: str = JSON_TYPE
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, close: bool = False, head_only: bool = False) -> bytes:
        """The bytes of the HTTP/1.1 response.

        Args:
            close: whether the connection is closed after the response.
            head_only: whether to omit the body, for HEAD.
        """
        head = f"{_date_line(int(time.time()))}content-type: {self.kind}\r\ncontent-length: {len(self.body)}\r\n"
        for name, value in self.headers:
            head += f"{name}: {value}\r\n"
        end = b"connection: close\r\n\r\n" if close else b"\r\n"
        return b"".join((_STATUS_LINES[self.status], head.encode("latin-1"), end, b"" if head_only else self.body))


def error_reply(error: CascadeError) -> Reply:
    """The response to an error: its status, headers and message."""
    return Reply(orjson.dumps({"error": str(error)}), status=http_status(error), headers=http_headers(error))


@functools.lru_cache(maxsize=2)
def _date_line(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}\r\n"
