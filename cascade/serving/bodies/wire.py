"""What goes over the wire: bodies to rows, answers to bodies."""

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

__all__ = ["HTML_TYPE", "JSON_TYPE", "NPY_TYPE", "RAW_TYPE", "answer_columns", "content_kind", "decode_rows", "stacked"]

HTML_TYPE = "text/html; charset=utf-8"
JSON_TYPE = "application/json"
NPY_TYPE = "application/x-npy"
RAW_TYPE = "application/octet-stream"
MANY_VALUES = 1 << 16
DTYPE_NAME = re.compile(r"[<>=|]?[A-Za-z]{1,10}[0-9]{0,3}")


def decode_rows(headers: Mapping[str, str], body: bytes, config: CascadeConfig) -> np.ndarray:
    """Reads the rows of a request.

    Args:
        headers: with lower-case names: "content-type"; for raw rows also "x-dtype" and "x-shape" (n and the shape
            of a row, with commas), which by default are those of the configuration.
        body: as it came.
        config: what a row is, and how many a request may have.

    Returns:
        (n, *shape), n >= 1, of the configuration's dtype.

    Raises:
        UnsupportedBody: the content type is none of JSON, ``.npy`` and raw bytes.
        RowsError: the body does not hold such rows.
        BodyTooLarge: it holds too many.
    """
    if not body:
        raise RowsError("the body is empty; it must hold at least one row")
    kind = content_kind(headers)
    if kind == JSON_TYPE:
        rows = _from_json(body, config)
    elif kind == NPY_TYPE:
        rows = read_npy(body, "the body", RowsError)
    elif kind == RAW_TYPE:
        rows = _from_raw(headers, body, config.rows)
    else:
        raise UnsupportedBody(f"content type {kind[:80]!r} is not read; send {JSON_TYPE}, {NPY_TYPE} or {RAW_TYPE}")
    # Before they are converted, which may take long.
    most, count = config.serving.max_request_rows, len(rows) if isinstance(rows, list) or rows.ndim else 0
    if count > most:
        raise BodyTooLarge(f"a request may have {most} rows; got {count}; send them in several requests")
    return check_rows(rows, config.rows)


def content_kind(headers: Mapping[str, str]) -> str:
    """The content type of a request, without its parameters; JSON where it has none."""
    return headers.get("content-type", JSON_TYPE).partition(";")[0].strip().lower()


def stacked(rows: list[Any], row_values: int) -> Any:
    """Many values as an array, made row by row: other threads run in between, as they would not during one long call.

    Args:
        rows: nested lists.
        row_values: how many values a row should have.

    Returns:
        An array, or the rows as they are where they are few.

    Raises:
        RowsError: they have different shapes.
    """
    if len(rows) * row_values < MANY_VALUES:
        return rows
    try:
        return np.stack([np.asarray(row) for row in rows])
    except ValueError as error:
        raise RowsError("rows must all have the same shape, and hold numbers or lists at each depth") from error


def answer_columns(answers: Answers, stages: Sequence[str], classes: Sequence[str] | None) -> dict[str, Any]:
    """Answers as columns of plain values.

    They are "answer", "stage", "confidence", "cost", "degraded", "abstained", and "label" if classes have names.

    Args:
        answers: n answered rows.
        stages: names of the cascade's stages.
        classes: names of the answers.
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
        raise RowsError('the body must be a JSON object with one key, "rows", that holds a list of rows')
    # NumPy would give every number among texts the room of the longest text, gigabytes if need be. Only the key has
    # quotation marks where all rows are numbers, which is far quicker to see than the types of the values.
    rows = content["rows"]
    if config.rows.dtype == "text":
        return rows
    if body.count(b'"') > 2:
        raise RowsError("rows must be numbers; got a text among them")
    return stacked(rows, math.prod(config.rows.shape)) if len(rows) <= config.serving.max_request_rows else rows


def _from_raw(headers: Mapping[str, str], body: bytes, expected: RowsConfig) -> np.ndarray:
    if expected.dtype == "text":
        raise RowsError(f"texts cannot be sent as {RAW_TYPE}; send {JSON_TYPE}")
    dtype = _dtype(headers.get("x-dtype", expected.dtype))
    text = headers.get("x-shape")
    row_bytes = math.prod(expected.shape) * dtype.itemsize
    if text is None and len(body) % row_bytes:
        raise RowsError(
            f"the body has {len(body)} bytes, no whole number of rows; a row of shape {expected.shape} and {dtype} has "
            f"{row_bytes}"
        )
    shape = (len(body) // row_bytes, *expected.shape) if text is None else _shape(text)
    if math.prod(shape) * dtype.itemsize != len(body):
        raise RowsError(
            f"the body has {len(body)} bytes; shape {shape} of {dtype} needs {math.prod(shape) * dtype.itemsize}"
        )
    return np.frombuffer(body, dtype).reshape(shape)


# A client says the same with every request.
@functools.lru_cache(maxsize=64)
def _dtype(text: str) -> np.dtype[Any]:
    # NumPy reads whole descriptions of tables here, and fails in many ways; names of numbers are short words.
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
        raise RowsError(f"X-Shape must be whole numbers with commas, such as 64,32,32,3; got {text[:80]!r}")
    return tuple(int(part) for part in parts)
