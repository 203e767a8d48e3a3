"""Decodes large bodies in a thread, so that the event loop serves other requests meanwhile."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from cascade.config import CascadeConfig
from cascade.serving.bodies.wire import RAW_TYPE, content_kind

__all__ = ["decoded"]

LARGE_JSON_BYTES = 64 << 10
LARGE_RAW_BYTES = 1 << 20

Decoded = TypeVar("Decoded")


async def decoded(
    decode: Callable[[Mapping[str, str], bytes, CascadeConfig], Decoded],
    headers: Mapping[str, str],
    body: bytes,
    config: CascadeConfig,
) -> Decoded:
    """Decodes a body, in a thread if it is large.

    Args:
        decode: function of the headers, the body and the configuration, without side effects.
        headers: of the request, names in lower case.
        body: of the request.
        config: of the cascade.

    Returns:
        The result of ``decode``.

    Raises:
        CascadeError: raised by ``decode``.
    """
    is_numbers = content_kind(headers) == RAW_TYPE and not config.rows.numpy_dtype.hasobject
    large = LARGE_RAW_BYTES if is_numbers else LARGE_JSON_BYTES
    if len(body) < large:
        return decode(headers, body, config)
    return await asyncio.to_thread(decode, headers, body, config)
