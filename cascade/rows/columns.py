"""Rows of named columns with mixed types, as a NumPy structured array: (n,), one field for each column.

Such an array is indexed, joined and made read-only like every other array of rows, so nothing between the border and a
model treats it specially. A missing number is NaN, a missing text is ``None``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cascade.errors import RowsError
from cascade.files.tables import need_package

__all__ = [
    "ColumnType",
    "checked_columns",
    "column_rows",
    "columns_dtype",
    "data_frame",
    "described_columns",
    "example_columns",
    "records",
]

ColumnType = Literal["number", "integer", "boolean", "text"] | tuple[str, ...]
"""Type of a column; a tuple holds the permitted texts of a category."""

NUMPY = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}
CHECKED: dict[str, tuple[type, ...]] = {
    "number": (int, float, np.integer, np.floating),
    "integer": (int, np.integer),
    "boolean": (bool, np.bool_),
    "text": (str,),
}
MISSING = {"NoneType", "NAType", "NaTType"}
NEEDS_VALUES = ("integer", "boolean")


def columns_dtype(columns: Mapping[str, ColumnType]) -> np.dtype[Any]:
    """The type of the structured array."""
    return np.dtype(
        [(name, NUMPY.get(kind, object) if isinstance(kind, str) else object) for name, kind in columns.items()]
    )


def column_rows(rows: Any, columns: Mapping[str, ColumnType]) -> np.ndarray:
    """Converts rows to a structured array.

    Args:
        rows: a pandas data frame, an Arrow table or record batch, a structured array, or a sequence of n mappings, in
            which a missing value may be left out. Its columns may have any order.
        columns: type of each column.

    Returns:
        (n,), fields in the order of ``columns``.

    Raises:
        RowsError: there are no rows; a column is missing or unknown; or a value has another type, is infinite, or is
            missing where none may be.
    """
    return checked_columns(*_columns(rows, columns), columns)


def checked_columns(given: Mapping[str, Any], count: int, columns: Mapping[str, ColumnType]) -> np.ndarray:
    """Converts columns to a structured array.

    Args:
        given: n values of each column, in an array or a list.
        count: n.
        columns: type of each column.

    Returns:
        (n,), fields in the order of ``columns``.

    Raises:
        RowsError: see :func:`column_rows`.
    """
    if not count:
        raise RowsError("there must be at least one row; got 0")
    table = np.empty(count, dtype=columns_dtype(columns))
    for name, kind in columns.items():
        table[name] = _values(name, kind, given[name])
    return table


def records(rows: np.ndarray) -> list[dict[str, Any]]:
    """The rows of a structured array as mappings of plain values; a missing value is ``None``."""
    names = rows.dtype.names or ()
    plain = [[None if v != v else v for v in rows[name].tolist()] for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*plain, strict=True)]


def data_frame(rows: np.ndarray) -> Any:
    """A pandas data frame of a structured array, for models that select columns by name.

    Texts and categories are objects; a missing one is NaN.

    Raises:
        RowsError: pandas is not installed.
    """
    pandas = need_package("pandas", "a model of named columns", RowsError)
    frame: dict[str, Any] = {}
    for name in rows.dtype.names or ():
        values = rows[name].copy()
        if values.dtype == object:
            values[[value is None for value in values]] = np.nan
            frame[name] = pandas.Series(values, dtype=object)
        else:
            frame[name] = values
    return pandas.DataFrame(frame)


def described_columns(frame: Any) -> dict[str, ColumnType] | None:
    """The types of the columns of a pandas data frame; ``None`` if one has another type, or no text as its name."""
    found: dict[str, ColumnType] = {}
    kinds: dict[str, ColumnType] = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
    for name in frame.columns:
        values = frame[name]
        kind = kinds.get(getattr(values.dtype, "kind", "O"), "text")
        if not isinstance(name, str) or (kind == "text" and not all(map(_is_text_or_missing, values.tolist()))):
            return None
        found[name] = kind
    return found


def example_columns(columns: Mapping[str, ColumnType], count: int, random: np.random.Generator) -> np.ndarray:
    """(count,) rows for trying a stage; the first one has zeros, empty texts and first categories."""
    table = np.zeros(count, dtype=columns_dtype(columns))
    for name, kind in columns.items():
        if kind == "number":
            table[name] = random.random(count)
        elif isinstance(kind, str) and kind in NUMPY:
            table[name] = random.integers(0, 2, count)
        else:
            choices = np.array(("", "a", "text") if isinstance(kind, str) else kind, dtype=object)
            table[name] = choices[random.integers(0, len(choices), count)]
            table[name][:1] = choices[0]
        if isinstance(kind, str) and kind in NUMPY:
            table[name][:1] = 0
    return table


def _columns(rows: Any, columns: Mapping[str, ColumnType]) -> tuple[dict[str, Any], int]:
    """The values of each column, and the number of rows."""
    if isinstance(rows, np.ndarray) and rows.dtype.names is not None and rows.ndim == 1:
        names, count = rows.dtype.names, len(rows)
    elif hasattr(rows, "column_names") and hasattr(rows, "num_rows"):  # Arrow
        names, count = tuple(rows.column_names), rows.num_rows
    elif hasattr(rows, "iloc") and hasattr(rows, "columns"):  # pandas
        names, count = tuple(rows.columns), len(rows)
    elif isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _of_records(rows, columns)
    else:
        raise RowsError(
            f"rows must be records, one object for each row, with the columns {_listed(columns)}; got "
            f"{type(rows).__name__}"
        )
    unknown = [name for name in names if name not in columns]
    missing = [name for name in columns if name not in names]
    if unknown or missing or len(set(names)) < len(names):
        wrong = [f"unknown are {_listed(unknown)}"] if unknown else []
        wrong += [f"missing are {_listed(missing)}"] if missing else []
        raise RowsError(f"rows must have the columns {_listed(columns)}; {', '.join(wrong) or 'some are repeated'}")
    if hasattr(rows, "column_names"):
        return {name: rows.column(name).to_pylist() for name in names}, count
    return {name: rows[name] for name in names}, count


def _of_records(rows: Sequence[Any], columns: Mapping[str, ColumnType]) -> tuple[dict[str, Any], int]:
    known = columns.keys()
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise RowsError(
                f"rows must be records, objects with the columns {_listed(columns)}; row {place} is "
                f"{type(row).__name__}"
            )
        if not known >= row.keys():
            raise RowsError(
                f"row {place} has the unknown columns {_listed(row.keys() - known)}; the columns are {_listed(columns)}"
            )
    return {name: [row.get(name) for row in rows] for name in columns}, len(rows)


def _values(name: str, kind: ColumnType, given: Any) -> np.ndarray:
    dtype = getattr(given, "dtype", None)
    wanted = kind if isinstance(kind, str) else "text"
    if isinstance(dtype, np.dtype) and dtype.kind in {"number": "iuf", "integer": "iu", "boolean": "b"}.get(wanted, ""):
        found = np.asarray(given)
        if wanted == "integer" and dtype == np.uint64 and len(found) and found.max() > np.iinfo(np.int64).max:
            raise RowsError(f"column {name!r} must be integers of 64 bits; got {found.max()}")
        values: np.ndarray = found.astype(NUMPY[wanted])
    else:
        values = _from_objects(name, wanted, given.tolist() if hasattr(given, "tolist") else list(given))
    if wanted == "number" and np.isinf(values).any():
        raise RowsError(f"column {name!r} must be finite or missing; row {int(np.isinf(values).argmax())} is infinite")
    if isinstance(kind, tuple):
        permitted = {*kind, None}
        row = next((row for row, value in enumerate(values.tolist()) if value not in permitted), None)
        if row is not None:
            raise RowsError(f"column {name!r} must be one of {_listed(kind)} or missing; row {row} is {values[row]!r}")
    return values


def _from_objects(name: str, kind: str, given: list[Any]) -> np.ndarray:
    """Values of unknown types; those that are missing become NaN or ``None``."""
    values = [None if type(v).__name__ in MISSING or (isinstance(v, float) and v != v) else v for v in given]
    allowed = CHECKED[kind]
    for row, value in enumerate(values):
        if value is None and kind in NEEDS_VALUES:
            raise RowsError(
                f"column {name!r} must have a value in every row; row {row} has none (a number or a text may be "
                "missing)"
            )
        if value is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and kind != "boolean")):
            raise RowsError(f"column {name!r} must be of the type {kind}; row {row} is {_short(value)}")
    if kind == "text":
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts
    try:
        return np.array(values, dtype=NUMPY[kind])
    except OverflowError as error:
        raise RowsError(f"column {name!r} has a number that is too large for 64 bits") from error


def _is_text_or_missing(value: Any) -> bool:
    return isinstance(value, str) or type(value).__name__ in MISSING or value != value


def _short(value: Any) -> str:
    if not isinstance(value, str | bytes) and hasattr(value, "__len__"):
        return f"a {type(value).__name__}"  # whose text may be nested too deeply
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Any) -> str:
    shown = sorted(map(str, names)) if isinstance(names, set) else list(map(str, names))
    return ", ".join(map(repr, shown[:20])) + (f", ... {len(shown)} in total" if len(shown) > 20 else "")
