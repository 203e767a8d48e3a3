"""Tensors of the Open Inference Protocol: their datatypes, to rows, from answers."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from cascade.config import CascadeConfig, RowsConfig
from cascade.errors import RowsError
from cascade.rows.checks import check_rows
from cascade.serving.bodies.wire import stack_rows
from cascade.serving.errors import BodyTooLarge

__all__ = [
    "INPUT",
    "OUTPUTS",
    "RAW_DATATYPES",
    "TEXT",
    "InputTensor",
    "Tensor",
    "check_tensor",
    "datatype_of",
    "decode_raw",
    "decode_values",
    "describe_value",
    "encode_raw",
    "read_texts",
]

INPUT = "rows"
TEXT = "BYTES"
OUTPUTS = {
    "answer": "INT64",
    "stage": TEXT,
    "confidence": "FP64",
    "cost": "FP64",
    "degraded": "BOOL",
    "abstained": "BOOL",
    "label": TEXT,
}
"""Datatype of each output."""

RAW_DATATYPES = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""NumPy dtype of each datatype in raw contents: little-endian, in C order."""

_DATATYPES = {dtype.name: datatype for datatype, dtype in RAW_DATATYPES.items()} | {"text": TEXT}


@dataclass(frozen=True, eq=False)
class InputTensor:
    """An input of a request, as it was sent.

    Attributes:
        name: not checked, like all other attributes.
        datatype: of the protocol, such as "FP64".
        shape: a list of sizes.
        content: a list of values, or their raw bytes.
    """

    name: Any
    datatype: Any
    shape: Any
    content: Any


@dataclass(frozen=True)
class Tensor:
    """An output of shape (n,), or (n, w).

    Attributes:
        name: name of the column.
        datatype: of the protocol, such as "FP64".
        values: n plain values, or n lists of w.
        binary: whether it is sent as raw bytes.
        width: w; ``None`` for plain values.
    """

    name: str
    datatype: str
    values: list[Any]
    binary: bool
    width: int | None = None

    @property
    def shape(self) -> list[int]:
        """The shape of the values, [n] or [n, w]."""
        return [len(self.values)] if self.width is None else [len(self.values), self.width]


def check_tensor(name: Any, datatype: Any, shape: Any, config: CascadeConfig) -> tuple[int, ...]:
    """Checks the description of a request's only input.

    Args:
        name: must be "rows".
        datatype: must be that of the configuration.
        shape: must be (n, *shape), n >= 1.
        config: of the cascade.

    Returns:
        The shape.

    Raises:
        RowsError: one of them is different.
        BodyTooLarge: n exceeds ``serving.max_request_rows``.
    """
    if name != INPUT:
        raise RowsError(f"the name of the input must be {INPUT!r}; got {describe_value(name)}")
    expected = datatype_of(config.rows)
    if datatype != expected:
        raise RowsError(f"input {INPUT!r} must have the datatype {expected}; got {describe_value(datatype)}")
    sizes = tuple(shape) if isinstance(shape, list) else ()
    if not sizes or any(type(size) is not int for size in sizes) or sizes[1:] != config.rows.shape or sizes[0] < 1:
        wanted = ", ".join(["n", *map(str, config.rows.shape)])
        raise RowsError(f"input {INPUT!r} must have the shape [{wanted}], n at least 1; got {describe_value(shape)}")
    if sizes[0] > config.serving.max_request_rows:
        most = config.serving.max_request_rows
        raise BodyTooLarge(f"a request may have {most} rows; got {sizes[0]}; split it into several requests")
    return sizes


def decode_raw(content: bytes | memoryview, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from raw contents.

    Args:
        content: little-endian numbers; or texts in UTF-8, each after its length in 4 bytes. A row of named columns is
            a text, a JSON object.
        shape: of the tensor, (n, *shape of a row).
        expected: the configured shape and dtype of a row.

    Returns:
        (n, *shape), of the configured dtype.

    Raises:
        RowsError: the contents do not match the shape, or the rows are invalid.
    """
    if expected.columns is not None:
        return check_rows(_records(read_texts(content, shape[0])), expected)
    if expected.dtype == "text":
        return check_rows(read_texts(content, shape[0]), expected)
    dtype = RAW_DATATYPES[datatype_of(expected)]
    if len(content) != math.prod(shape) * dtype.itemsize:
        wanted = math.prod(shape) * dtype.itemsize
        raise RowsError(f"input {INPUT!r} of shape {list(shape)} must have {wanted} bytes; got {len(content)}")
    if dtype.kind == "b" and (np.frombuffer(content, np.uint8) > 1).any():
        raise RowsError(f"each byte of input {INPUT!r} must be 0 or 1")
    # The JSON before the numbers can have any length, so they may be unaligned.
    return check_rows(np.require(np.frombuffer(content, dtype), requirements="A").reshape(shape), expected)


def decode_values(values: Any, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from a list of values, flat or nested like the shape.

    Raises:
        RowsError: the values do not match the shape, or the rows are invalid.
    """
    if not isinstance(values, list):
        raise RowsError(f"the data of input {INPUT!r} must be a list")
    nested = bool(values) and isinstance(values[0], list)
    if not nested and len(values) != math.prod(shape):
        raise RowsError(
            f"input {INPUT!r} of shape {list(shape)} must have {math.prod(shape)} values; got {len(values)}"
        )
    if expected.columns is not None:
        return check_rows(_records(values), expected)
    if expected.dtype == "text":
        return check_rows(values, expected)
    _check_numbers(values, len(shape) if nested else 1)
    size = math.prod(shape[1:])
    given = values if nested else [values[start : start + size] for start in range(0, len(values), size)]
    rows = check_rows(
        stack_rows(given, size) if nested else np.asarray(stack_rows(given, size)).reshape(shape), expected
    )
    if rows.shape != shape:
        raise RowsError(f"input {INPUT!r} must have the shape {list(shape)}; its data has {list(rows.shape)}")
    return rows


def encode_raw(tensor: Tensor) -> bytes:
    """A tensor's raw contents."""
    if tensor.datatype != TEXT:
        return np.array(tensor.values, RAW_DATATYPES[tensor.datatype]).tobytes()
    texts = [text.encode() for text in tensor.values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def read_texts(content: bytes | memoryview, n: int, name: str = INPUT) -> list[str]:
    """n texts from raw contents.

    Args:
        content: texts in UTF-8, each after its length in 4 bytes.
        n: number of texts.
        name: of the input, for messages.

    Raises:
        RowsError: there are fewer or more, or one is not UTF-8.
    """
    texts, start = [], 0
    for _ in range(n):
        end = start + 4 + int.from_bytes(content[start : start + 4], "little")
        if start + 4 > len(content) or end > len(content):
            raise RowsError(f"input {name!r} must have {n} texts, each after its length in 4 bytes; bytes are missing")
        texts.append(bytes(content[start + 4 : end]))
        start = end
    if start != len(content):
        raise RowsError(f"input {name!r} must have {n} texts; {len(content) - start} bytes follow them")
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError as error:
        raise RowsError(f"the texts of input {name!r} must be UTF-8: {error}") from error


def describe_value(value: Any) -> str:
    """A value for an error message: short, on one line, and safe for deeply nested lists."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, list) and len(value) <= 8 and all(isinstance(each, int | float) for each in value):
        return repr(value)
    return repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def datatype_of(rows: RowsConfig) -> str:
    """Datatype of the configured rows."""
    # Types that the protocol lacks, such as long double, are sent as doubles.
    if rows.columns is not None:
        return TEXT
    return _DATATYPES.get(rows.dtype if rows.dtype == "text" else rows.numpy_dtype.name, "FP64")


def _check_numbers(values: list[Any], depth: int) -> None:
    """Refuses texts: with one among numbers, NumPy would store each number as a text of that length."""
    leaves: Any = values
    for _ in range(depth - 1):
        leaves = itertools.chain.from_iterable(leaves)
    try:
        kinds = set(map(type, leaves))
    except TypeError as error:
        raise RowsError(f"the lists of input {INPUT!r} must all have the depth {depth}") from error
    if not kinds <= {int, float, bool}:
        raise RowsError(f"input {INPUT!r} must have numbers only, all at the same depth")


def _records(texts: list[Any]) -> list[Any]:
    """Rows of named columns, each from a JSON object."""
    found = []
    for row, text in enumerate(texts):
        try:
            found.append(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            raise RowsError(f"row {row} of input {INPUT!r} must be a JSON object with its columns: {error}") from error
    return found
