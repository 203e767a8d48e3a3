"""Large bodies are decoded in a thread, so that other requests are read and answered meanwhile."""

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
    """What ``decode`` makes of a body.

    Args:
        decode: a function without side effects.
        headers: of the request, with lower-case names.
        body: as it came.
        config: of the cascade.

    Raises:
        CascadeError: as ``decode`` does.
    """
    large = LARGE_RAW_BYTES if content_kind(headers) == RAW_TYPE else LARGE_JSON_BYTES
    if len(body) < large:
        return decode(headers, body, config)
    return await asyncio.to_thread(decode, headers, body, config)
