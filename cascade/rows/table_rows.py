"""Rows from CSV, Parquet, Arrow and JSON lines files."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import DataError, RowsError
from cascade.files.tables import ColumnKind, TableFile
from cascade.rows.checks import RowForm
from cascade.rows.columns import ColumnType, column_rows

__all__ = ["LABEL", "read_table_rows", "table_batches", "table_columns"]

LABEL = "label"


def read_table_rows(path: Path | str, form: RowForm | None = None) -> tuple[np.ndarray, Any]:
    """Reads rows and labels.

    The column ``label`` has the labels. If ``form`` has named columns, these are the rows. Otherwise the rows are one
    column of texts or of lists of numbers, or all columns together, which must be numbers: (n, columns), in the
    order of the file.

    Args:
        path: of the file.
        form: numbers are brought into its shape if it has as many; ``None`` keeps them as they are.

    Returns:
        (n, ...) rows; (n,) labels as texts or integers, ``None`` if the file has none.

    Raises:
        DataError: the file is missing or damaged, or its columns are not rows.
    """
    rows: list[np.ndarray] = []
    labels: list[Any] = []
    file = _open(path)
    for part, own in _batches(file, form):
        rows.append(part)
        labels += own
    whole = rows[0] if len(rows) == 1 else np.concatenate(rows)
    return whole, _labels(file, labels) if LABEL in file.names else None


def table_batches(path: Path | str, form: RowForm, start: int = 0) -> Iterator[tuple[np.ndarray, Any]]:
    """Rows and labels like :func:`read_table_rows`, a batch at a time.

    Args:
        path: of the file.
        form: as there.
        start: index of the first row.

    Raises:
        DataError: as there; the batches before a damaged place come first.
    """
    file = _open(path)
    for rows, labels in _batches(file, form, start):
        yield rows, _labels(file, labels) if LABEL in file.names else None


def _open(path: Path | str) -> TableFile:
    try:
        file = TableFile.open(path, DataError)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    if file.names == (LABEL,):
        raise DataError(f"{path} has labels only; the other columns of the file are the rows")
    return file


def _batches(file: TableFile, form: RowForm | None, start: int = 0) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Rows in the form's shape, and labels as they are."""
    names = [name for name in file.names if name != LABEL]
    has_label = LABEL in file.names
    columns = None if form is None else form.columns
    if columns is not None:
        _check_names(file, names, list(columns))
    kinds = _kinds(names, form)
    if has_label:
        kinds |= {LABEL: "any" if "any" in kinds.values() else "text"}
    done = start
    for batch in file.batches(kinds, start):
        part = batch.select([name for name in kinds if name != LABEL])
        if not part.num_rows:
            continue
        rows = _plain(file, part, done) if columns is None else _named(file, part, columns, done)
        if form is not None and columns is None and rows.ndim == 2 and rows.shape[1] == math.prod(form.shape):
            rows = rows.reshape(len(rows), *form.shape)
        yield rows, batch.column(LABEL).to_pylist() if has_label else []
        done += part.num_rows
    if not done:
        raise DataError(f"{file.path} has no rows")


def _kinds(names: Sequence[str], form: RowForm | None) -> dict[str, ColumnKind]:
    """Types of the columns of the rows; "any" where the configuration does not fix them."""
    if form is None:
        return dict.fromkeys(names, "any")
    if form.columns is not None:
        return {name: kind if isinstance(kind, str) else "text" for name, kind in form.columns.items()}
    if form.dtype == "text":
        return dict.fromkeys(names, "text" if len(names) == 1 else "any")
    if len(names) == 1 and math.prod(form.shape) != 1:  # lists
        return {names[0]: "any"}
    return dict.fromkeys(names, "number" if form.numpy_dtype.kind == "f" else "any")


def table_columns(path: Path | str) -> dict[str, ColumnType] | None:
    """The types of the columns of a file with mixed types, by its first rows; ``None`` if it has one type.

    Raises:
        DataError: the file is missing or damaged, or has a column of another type.
    """
    import pyarrow as pa

    file = _open(path)
    names = [name for name in file.names if name != LABEL]
    first = next(file.batches(dict.fromkeys(names, "any")), None)
    if first is None or len(names) < 2:
        return None
    found: dict[str, ColumnType] = {}
    for name, values in zip(names, first.columns, strict=True):
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        if pa.types.is_boolean(kind) and not values.null_count:
            found[name] = "boolean"
        elif pa.types.is_integer(kind) and not values.null_count:
            found[name] = "integer"
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
            found[name] = "number"
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            found[name] = "text"
        else:
            raise DataError(f"{path}: column {name!r} holds {kind}, which is no number, boolean or text without gaps")
    return None if set(found.values()) <= {"integer", "number"} and not _has_gaps(first) else found


def _has_gaps(batch: Any) -> bool:
    """Whether a value is missing in a batch."""
    return any(values.null_count for values in batch.columns)


def _check_names(file: TableFile, names: Sequence[str], columns: Sequence[str]) -> None:
    unknown = [name for name in names if name not in columns]
    missing = [name for name in columns if name not in names]
    if unknown or missing:
        wrong = [f"unknown columns: {', '.join(unknown)}"] if unknown else []
        wrong += [f"missing columns: {', '.join(missing)}"] if missing else []
        raise DataError(
            f"{file.path} has {'; '.join(wrong)}. The configuration's rows.columns are {', '.join(columns)}, and the "
            f"right answers are in the column {LABEL!r}"
        )


def _named(file: TableFile, batch: Any, columns: Any, done: int) -> np.ndarray:
    try:
        return column_rows(batch, columns)
    except RowsError as error:
        raise DataError(f"{file.path}, from {file.place(done)} on: {error}") from error


def _plain(file: TableFile, batch: Any, done: int) -> np.ndarray:
    """A batch as numbers, (m, columns) or (m, ...), or as (m,) texts."""
    import pyarrow as pa

    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        if values.null_count:
            first = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(
                f"{file.path}: {file.place(done + first)} has no value in column {name!r}; fill it, leave the row out, "
                "or describe the columns with 'rows: {columns: ...}' in the configuration"
            )
    kinds = [values.type for values in batch.columns]
    if len(kinds) == 1 and (pa.types.is_string(kinds[0]) or pa.types.is_large_string(kinds[0])):
        texts = np.empty(batch.num_rows, dtype=object)
        texts[:] = batch.column(0).to_pylist()
        return texts
    if len(kinds) == 1 and pa.types.is_nested(kinds[0]):
        try:
            return np.array(batch.column(0).to_pylist())
        except ValueError as error:
            raise DataError(
                f"{file.path}: the lists of column {batch.schema.names[0]!r} must have one length"
            ) from error
    other = [
        name
        for name, kind in zip(batch.schema.names, kinds, strict=True)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
    ]
    if other:
        raise DataError(
            f"{file.path}: column {other[0]!r} holds {kinds[batch.schema.names.index(other[0])]}, not numbers. Rows of "
            "mixed types need names and types of their columns in the configuration: 'rows: {columns: {age: number, "
            f"city: text}}}}'; the right answers are in the column {LABEL!r}"
        )
    return np.stack([values.to_numpy(zero_copy_only=False) for values in batch.columns], axis=1)


def _labels(file: TableFile, labels: list[Any]) -> Any:
    row = next((row for row, value in enumerate(labels) if value is None), None)
    if row is not None:
        raise DataError(f"{file.path}: {file.place(row)} has no label; leave such rows out")
    if all(isinstance(value, str) and value.isdecimal() and str(int(value)) == value for value in labels):
        return [int(value) for value in labels]  # a CSV file has no types
    return labels
