"""Checks of rows where they enter, before any model sees them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cascade.errors import InputError, RowsError
from cascade.rows.columns import ColumnType, column_rows, example_columns

__all__ = ["check_rows", "example_row", "example_rows", "refuse_masked"]

WORDS = ("a", "good", "bad", "row", "of", "text")


class RowForm(Protocol):
    """What the configuration of rows fixes (:class:`~cascade.config.RowsConfig`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row, without the axis n."""

    @property
    def dtype(self) -> str:
        """NumPy name of the number type, or "text"."""

    @property
    def columns(self) -> Mapping[str, ColumnType] | None:
        """Types of named columns; ``None`` if rows have none."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Type of the arrays of rows."""


def check_rows(rows: Any, expected: RowForm) -> np.ndarray:
    """Converts rows to the array that the models expect.

    Args:
        rows: an array, or nested lists; for named columns see :func:`~cascade.rows.columns.column_rows`.
        expected: shape and dtype of a row, or its columns.

    Returns:
        (n, *shape) array of the expected dtype; (n,) structured array of named columns.

    Raises:
        RowsError: wrong shape or dtype, no rows, NaN or infinity.
    """
    refuse_masked(rows, RowsError)
    if expected.columns is not None:
        return column_rows(rows, expected.columns)
    if expected.dtype == "text":
        return _texts(rows)
    given = _array(rows)
    if given.shape[1:] != expected.shape or given.ndim != len(expected.shape) + 1:
        raise RowsError(f"rows must have the shape (n, {', '.join(map(str, expected.shape))}); got {given.shape}")
    dtype = expected.numpy_dtype
    if given.dtype == dtype and dtype.kind != "f":
        return np.ascontiguousarray(given)
    if not _fits(given, dtype):
        raise RowsError(f"rows must be {expected.dtype}; got {given.dtype}, whose values do not all fit")
    with np.errstate(over="ignore"):
        wanted = np.ascontiguousarray(given, dtype=dtype)
    if wanted.dtype.kind == "f" and not np.isfinite(wanted).all():
        row = _first_bad_row(wanted)
        raise RowsError(f"rows must be finite; row {row} holds NaN, infinity or a number too large for {wanted.dtype}")
    return wanted


def example_row(expected: RowForm) -> np.ndarray:
    """(1, *shape), a row of zeros or an empty text, for trying a stage."""
    if expected.columns is not None:
        return example_rows(expected, 1)
    row = np.zeros((1, *expected.shape), expected.numpy_dtype)
    if expected.dtype == "text":
        row[:] = ""
    return row


def example_rows(expected: RowForm, count: int, seed: int = 0) -> np.ndarray:
    """(count, *shape), the row of :func:`example_row` and synthetic ones: numbers in [0, 1], bytes, words."""
    random = np.random.default_rng(seed)
    if expected.columns is not None:
        return example_columns(expected.columns, count, random)
    dtype, shape = expected.numpy_dtype, (count, *expected.shape)
    if expected.dtype == "text":
        rows = np.array([" ".join(random.choice(WORDS, size)) for size in range(count)], dtype=object)
    elif dtype.kind == "f":
        rows = random.random(shape).astype(dtype)
    else:  # wider integers are usually indices, possibly into a short list
        rows = random.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)
    rows[:1] = example_row(expected)
    return rows


def _array(rows: Any) -> np.ndarray:
    try:
        given = np.asarray(rows)
    except ValueError as error:
        raise RowsError("rows must all have the same shape, and hold numbers or lists at each depth") from error
    if given.ndim and not len(given):
        raise RowsError("there must be at least one row; got 0")
    if given.dtype.kind not in "biuf":
        raise RowsError(f"rows must be numbers; got {_kind(given)}")
    return given


def _kind(given: np.ndarray) -> str:
    if given.dtype != object:
        return str(given.dtype)
    value = next((value for value in given.flat if not isinstance(value, int | float | np.number)), None)
    return "a missing value (null, None)" if value is None else f"a value of the type {type(value).__name__}"


def refuse_masked(rows: Any, error_type: type[InputError]) -> None:
    """Refuses rows with masked values, which ``np.asarray`` would replace by the data under the mask.

    Raises:
        InputError: of ``error_type``.
    """
    if np.ma.isMaskedArray(rows) and np.ma.getmaskarray(rows).any():
        row = int(np.flatnonzero(np.ma.getmaskarray(rows).reshape(len(rows), -1).any(axis=1))[0])
        raise error_type(f"rows must not have masked values; row {row} has one (fill it, or leave the row out)")


def _fits(given: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether values can be converted to the dtype: floats may be rounded, integers must be in range."""
    if not given.size or dtype.kind == "f":
        return True
    if given.dtype.kind == "f":
        return False
    if dtype.kind == "b":
        return given.dtype.kind == "b"
    limits = np.iinfo(dtype)
    return bool(given.min() >= limits.min and given.max() <= limits.max)


def _first_bad_row(given: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(given.reshape(len(given), -1)).all(axis=1))[0])


def _texts(rows: Any) -> np.ndarray:
    texts = rows.tolist() if isinstance(rows, np.ndarray) else rows
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise RowsError("rows must be a list of at least one text")
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
