"""How many values a JSON body holds, counted before any of them is made."""

import math

from cascade.config import CascadeConfig
from cascade.serving.errors import BodyTooLarge

__all__ = ["check_json_size"]

SMALL_BYTES = 16 << 10
SLACK = 1000
"""Values besides those of the rows: names, shapes, parameters, outputs."""


def check_json_size(body: bytes | memoryview, config: CascadeConfig) -> None:
    """Refuses a body with more values than the most rows of a request have.

    A value of two bytes, ``[]``, becomes an object of 56, and millions of them hold the interpreter for seconds. The
    counts run at the speed of memory.

    Args:
        body: JSON, in UTF-8; whether it is well-formed is not looked at.
        config: of the cascade: what a row is, and how many a request may have.

    Raises:
        BodyTooLarge: there are more lists, numbers, texts or objects.
    """
    if len(body) <= SMALL_BYTES:
        return
    most, shape = config.serving.max_request_rows, config.rows.shape
    lists = most * sum(math.prod(shape[:axis]) for axis in range(len(shape)))
    texts = most if config.rows.dtype == "text" else 0
    content = bytes(body)
    if b"\\" in content:
        # Without escapes every quotation mark begins or ends a text.
        content = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = content.count(b'"')
    if quotes <= 2 * (texts + SLACK):
        outside = b"".join(content.split(b'"')[::2])
        values = outside.count(b",")
        if (
            outside.count(b"[") <= lists + SLACK
            and values <= most * math.prod(shape) + SLACK
            and outside.count(b"{") <= SLACK
        ):
            return
    raise BodyTooLarge(
        f"a request may have {most} rows, and the body holds more values than those have; send it in several requests"
    )
