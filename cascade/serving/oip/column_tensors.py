"""Rows of named columns in the Open Inference Protocol: one tensor for each column, of shape [n].

A missing number is NaN, in JSON ``null``; a missing text is ``null`` in JSON. Raw contents and gRPC lack missing texts,
so a tensor NAME.missing of BOOL may accompany a column of numbers, texts or categories.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.rows.columns import ColumnType, checked_columns
from cascade.serving.errors import BodyTooLarge
from cascade.serving.oip.tensors import INPUT, RAW_DATATYPES, TEXT, InputTensor, describe_value, read_texts

__all__ = ["MISSING_SUFFIX", "are_column_tensors", "column_inputs", "decode_columns"]

MISSING_SUFFIX = ".missing"
_DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "text": TEXT}
_ALSO_READ = {"number": "iuf", "integer": "iu", "boolean": "b"}
"""Kinds of NumPy dtypes that a column accepts besides its own datatype."""


def column_inputs(columns: Mapping[str, ColumnType]) -> list[dict[str, Any]]:
    """Name, datatype and shape of each column, as in the metadata of a model."""
    return [{"name": name, "datatype": _datatype(kind), "shape": [-1]} for name, kind in columns.items()]


def are_column_tensors(inputs: Sequence[InputTensor], columns: Mapping[str, ColumnType] | None) -> bool:
    """Whether inputs are columns; otherwise they are one tensor "rows" with a JSON object for each row."""
    return columns is not None and (len(inputs) != 1 or inputs[0].name != INPUT or INPUT in columns)


def decode_columns(inputs: Sequence[InputTensor], config: CascadeConfig) -> np.ndarray:
    """Rows from one tensor for each column, in any order.

    Args:
        inputs: of a request; each of shape [n] or [n, 1].
        config: of the cascade; its rows have columns.

    Returns:
        (n,) structured array.

    Raises:
        RowsError: a column is missing, unknown or repeated, has another datatype or length, or an invalid value.
        BodyTooLarge: n exceeds ``serving.max_request_rows``.
    """
    columns: Mapping[str, ColumnType] = config.rows.columns or {}
    count = _check_names(inputs, columns, config.serving.max_request_rows)
    given, masks = {}, {}
    for tensor in inputs:
        if tensor.name in columns:
            given[tensor.name] = _values(tensor, columns[tensor.name], count)
        else:
            masks[tensor.name.removesuffix(MISSING_SUFFIX)] = _values(tensor, "boolean", count)
    for name, mask in masks.items():
        if isinstance(mask, list) and not all(isinstance(gone, bool) for gone in mask):
            raise RowsError(f"input {name + MISSING_SUFFIX!r} must be true or false in every row")
        given[name] = [None if gone else value for value, gone in zip(given[name], mask, strict=True)]
    return checked_columns(given, count, columns)


def _check_names(inputs: Sequence[InputTensor], columns: Mapping[str, ColumnType], most: int) -> int:
    """Checks that the tensors are those of the columns; returns n."""
    names = [tensor.name for tensor in inputs]
    wanted = ", ".join(map(repr, columns))
    for name in names:
        if not {name, name.removesuffix(MISSING_SUFFIX)} & columns.keys():
            raise RowsError(f"there is no input {describe_value(name)}; the inputs are {wanted}, one for each column")
        if names.count(name) > 1:
            raise RowsError(f"input {describe_value(name)} is given twice")
    lacking = [name for name in columns if name not in names]
    if lacking:
        raise RowsError(f"the inputs must be {wanted}, one for each column; {', '.join(map(repr, lacking))} missing")
    counts = {str(tensor.name): _rows_of(tensor) for tensor in inputs}
    if len(set(counts.values())) > 1:
        raise RowsError(f"all inputs must have the same number of rows; got {counts}")
    count = next(iter(counts.values()))
    if count > most:
        raise BodyTooLarge(f"a request may have {most} rows; got {count}; split it into several requests")
    return count


def _rows_of(tensor: InputTensor) -> int:
    """n, from the shape of a tensor."""
    shape = tensor.shape
    if isinstance(shape, list) and shape and shape[1:] in ([], [1]) and type(shape[0]) is int and shape[0] >= 1:
        return int(shape[0])
    raise RowsError(f"input {tensor.name!r} must have the shape [n], n at least 1; got {describe_value(shape)}")


def _values(tensor: InputTensor, kind: ColumnType, count: int) -> Any:
    """(count,) values of a tensor: an array of numbers, or a list."""
    dtype = RAW_DATATYPES.get(tensor.datatype) if isinstance(tensor.datatype, str) else None
    own = _datatype(kind)
    if tensor.datatype != own and (dtype is None or dtype.kind not in _ALSO_READ.get(str(kind), "")):
        raise RowsError(f"input {tensor.name!r} must have the datatype {own}; got {describe_value(tensor.datatype)}")
    if not isinstance(tensor.content, list):
        if dtype is None:
            return read_texts(tensor.content, count, tensor.name)
        if len(tensor.content) != count * dtype.itemsize:
            wanted = count * dtype.itemsize
            raise RowsError(f"input {tensor.name!r} must have {wanted} bytes; got {len(tensor.content)}")
        if dtype.kind == "b" and (np.frombuffer(tensor.content, np.uint8) > 1).any():
            raise RowsError(f"each byte of input {tensor.name!r} must be 0 or 1")
        return np.frombuffer(tensor.content, dtype)
    values = tensor.content
    if len(tensor.shape) == 2 and all(isinstance(value, list) and len(value) == 1 for value in values):
        values = [value[0] for value in values]
    if len(values) != count:
        raise RowsError(f"input {tensor.name!r} must have {count} values; got {len(values)}")
    return values


def _datatype(kind: ColumnType) -> str:
    return _DATATYPES[kind] if isinstance(kind, str) else TEXT
