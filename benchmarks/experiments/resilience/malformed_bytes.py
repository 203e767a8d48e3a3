"""The bytes that malformed requests are made of."""

import random

__all__ = ["CRLF", "SMUGGLED", "SMUGGLED_MARK", "any_case", "post"]

CRLF = b"\r\n"
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
"""Hidden in bodies and behind broken requests; its answer is unlike all others."""
SMUGGLED_MARK = b'"openapi"'


def post(*headers: bytes, body: bytes = b"", target: bytes = b"/predict") -> bytes:
    """A POST request."""
    return CRLF.join([b"POST " + target + b" HTTP/1.1", b"Host: a", *headers, b"", body])


def any_case(dice: random.Random, text: bytes) -> bytes:
    """The text in random upper and lower case."""
    return bytes(dice.choice((byte, ord(chr(byte).swapcase()))) for byte in text)
