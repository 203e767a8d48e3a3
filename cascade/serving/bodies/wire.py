"""Request bodies to rows, and answers to response columns."""

import contextlib
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from cascade.answers import Answers
from cascade.config import CascadeConfig, RowsConfig
from cascade.errors import RowsError
from cascade.files.npy import read_npy
from cascade.rows.checks import check_rows
from cascade.serving.bodies.json_size import check_json_size
from cascade.serving.errors import BodyTooLarge, UnsupportedBody

__all__ = [
    "HTML_TYPE",
    "IMAGE_TYPES",
    "JSON_TYPE",
    "NPY_TYPE",
    "RAW_TYPE",
    "answer_columns",
    "content_kind",
    "decode_rows",
    "stack_rows",
]

HTML_TYPE = "text/html; charset=utf-8"
JSON_TYPE = "application/json"
NPY_TYPE = "application/x-npy"
RAW_TYPE = "application/octet-stream"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", RAW_TYPE)
MANY_VALUES = 1 << 16
DTYPE_NAME = re.compile(r"[<>=|]?[A-Za-z]{1,10}[0-9]{0,3}")


def decode_rows(headers: Mapping[str, str], body: bytes, config: CascadeConfig) -> np.ndarray:
    """Reads the rows of a request.

    Args:
        headers: names in lower case. "content-type"; for raw rows also "x-dtype" and "x-shape" (n and the shape of a
            row, separated by commas), by default those of the configuration.
        body: of the request.
        config: of the cascade; it has the shape and dtype of a row and the bound of the rows per request.

    Returns:
        (n, *shape), n >= 1, of the configuration's dtype.

    Raises:
        UnsupportedBody: the content type is neither JSON, nor ``.npy``, nor raw bytes.
        RowsError: the body does not have such rows.
        BodyTooLarge: the body has too many rows.
    """
    if not body:
        raise RowsError("the body is empty; it must have at least one row")
    kind = content_kind(headers)
    if kind == JSON_TYPE:
        rows = _from_json(body, config)
    elif kind == NPY_TYPE:
        rows = read_npy(body, "the body", RowsError)
    elif kind == RAW_TYPE:
        rows = _from_raw(headers, body, config.rows)
    else:
        raise UnsupportedBody(
            f"content type {kind[:80]!r} is not supported; send {JSON_TYPE}, {NPY_TYPE} or {RAW_TYPE}"
        )
    # Checked before the conversion, which may take long.
    most, count = config.serving.max_request_rows, len(rows) if isinstance(rows, list) or rows.ndim else 0
    if count > most:
        raise BodyTooLarge(f"a request may have {most} rows; got {count}; split it into several requests")
    return check_rows(rows, config.rows)


def content_kind(headers: Mapping[str, str]) -> str:
    """The content type of a request, without its parameters; JSON where it has none."""
    return headers.get("content-type", JSON_TYPE).partition(";")[0].strip().lower()


def stack_rows(rows: list[Any], row_values: int) -> Any:
    """Converts many values to an array, row by row, so that other threads can run in between.

    Args:
        rows: nested lists.
        row_values: number of values per row.

    Returns:
        An array; the unchanged lists where the values are few.

    Raises:
        RowsError: the rows have different shapes.
    """
    if len(rows) * row_values < MANY_VALUES:
        return rows
    try:
        return np.stack([np.asarray(row) for row in rows])
    except ValueError as error:
        raise RowsError("all rows must have the same shape, and either numbers or lists at each depth") from error


def answer_columns(answers: Answers, stages: Sequence[str], classes: Sequence[str] | None) -> dict[str, Any]:
    """Converts answers to columns of plain values.

    Args:
        answers: of n rows.
        stages: names of the cascade's stages.
        classes: names of the classes, if any.

    Returns:
        Lists of n values: "answer", "stage", "confidence", "cost", "degraded", "abstained", and "label" if there are
        names of classes.
    """
    columns: dict[str, Any] = {
        "answer": answers.answer.tolist(),
        "stage": [stages[stage] for stage in answers.stage.tolist()],
        "confidence": answers.confidence.tolist(),
        "cost": answers.cost.tolist(),
        "degraded": [False] * len(answers) if answers.degraded is None else answers.degraded.tolist(),
        "abstained": [False] * len(answers) if answers.abstained is None else answers.abstained.tolist(),
    }
    if classes is not None:
        columns["label"] = [classes[answer] for answer in columns["answer"]]
    return columns


def _from_json(body: bytes, config: CascadeConfig) -> Any:
    check_json_size(body, config)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RowsError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict) or set(content) != {"rows"} or not isinstance(content["rows"], list):
        raise RowsError('the body must be a JSON object with one key, "rows", whose value is a list of rows')
    # With one text among numbers, NumPy would store every number as a text of that length, gigabytes in the worst case.
    # Counting quotation marks finds texts much faster than checking the types: with numbers only the key has two.
    rows = content["rows"]
    if config.rows.dtype == "text" or config.rows.columns is not None:
        return rows
    if body.count(b'"') > 2:
        raise RowsError("rows must have numbers only; got a text")
    return stack_rows(rows, math.prod(config.rows.shape)) if len(rows) <= config.serving.max_request_rows else rows


def _from_raw(headers: Mapping[str, str], body: bytes, expected: RowsConfig) -> np.ndarray:
    if expected.columns is not None:
        raise RowsError(f"rows of named columns cannot be sent as {RAW_TYPE}; send {JSON_TYPE}, an object for each row")
    if expected.dtype == "text":
        raise RowsError(f"texts cannot be sent as {RAW_TYPE}; send {JSON_TYPE}")
    dtype = _dtype(headers.get("x-dtype", expected.dtype))
    text = headers.get("x-shape")
    row_bytes = math.prod(expected.shape) * dtype.itemsize
    if text is None and len(body) % row_bytes:
        raise RowsError(
            f"the body has {len(body)} bytes, which is not a multiple of a row's {row_bytes} (shape {expected.shape}, "
            f"{dtype})"
        )
    shape = (len(body) // row_bytes, *expected.shape) if text is None else _shape(text)
    if math.prod(shape) * dtype.itemsize != len(body):
        raise RowsError(
            f"the body has {len(body)} bytes; shape {shape} of {dtype} needs {math.prod(shape) * dtype.itemsize}"
        )
    return np.frombuffer(body, dtype).reshape(shape)


# Cached, since a client sends the same text with every request.
@functools.lru_cache(maxsize=64)
def _dtype(text: str) -> np.dtype[Any]:
    # np.dtype also parses descriptions of structured types, and fails on them in many ways; number types are one word.
    if DTYPE_NAME.fullmatch(text):
        with contextlib.suppress(TypeError):
            dtype = np.dtype(text)
            if dtype.kind in "biuf":
                return dtype
    raise RowsError(f"X-Dtype must be a NumPy number type such as uint8; got {text[:80]!r}")


@functools.lru_cache(maxsize=64)
def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) > 32 or not all(part.strip().isdecimal() and len(part) < 12 for part in parts):
        raise RowsError(f"X-Shape must be whole numbers separated by commas, such as 64,32,32,3; got {text[:80]!r}")
    return tuple(int(part) for part in parts)
