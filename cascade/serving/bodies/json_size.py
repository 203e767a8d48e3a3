"""Counts the values in a JSON body before it is parsed."""

import math

from cascade.config import CascadeConfig
from cascade.serving.errors import BodyTooLarge

__all__ = ["check_json_size"]

SMALL_BYTES = 16 << 10
SLACK = 1000
"""Values allowed besides those of the rows: names, shapes, parameters, outputs."""


def check_json_size(body: bytes | memoryview, config: CascadeConfig) -> None:
    """Refuses a body with more values than the largest allowed request has.

    Two bytes, ``[]``, become an object of 56 bytes, and parsing millions of them blocks the interpreter for seconds.
    Counting brackets, commas and quotation marks is much faster.

    Args:
        body: JSON in UTF-8; its syntax is not checked.
        config: of the cascade; it has the shape of a row and the bound of the rows per request.

    Raises:
        BodyTooLarge: the body has too many lists, numbers, texts or objects.
    """
    if len(body) <= SMALL_BYTES:
        return
    most, shape = config.serving.max_request_rows, config.rows.shape
    lists = most * sum(math.prod(shape[:axis]) for axis in range(len(shape)))
    texts = most if config.rows.dtype == "text" else 0
    values_per_row, objects = math.prod(shape), 0
    if config.rows.columns is not None:
        values_per_row, objects = len(config.rows.columns), most
        lists = most * values_per_row  # one tensor per column, of shape [n, 1]
        texts = 2 * most * values_per_row  # names and values
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
            and values <= most * values_per_row + SLACK
            and outside.count(b"{") <= objects + SLACK
        ):
            return
    raise BodyTooLarge(
        f"a request may have {most} rows, and the body has more values than that; split it into several requests"
    )
