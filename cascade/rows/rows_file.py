"""Files of labelled rows: an ``.npz`` with numbers as an array, or texts as one UTF-8 array with offsets; tables."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import DataError
from cascade.files.npz import load_arrays
from cascade.files.tables import is_table_file
from cascade.rows.checks import RowForm, refuse_masked
from cascade.rows.labels import label_ids, label_values
from cascade.rows.table_rows import read_table_rows

__all__ = ["load_rows", "save_rows"]

ARRAYS = ("rows", "rows_utf8", "rows_offsets", "label")


def save_rows(path: Path | str, rows: Any, label: Any = None) -> None:
    """Writes rows and their labels, without pickle.

    Texts are stored as UTF-8: row i is ``rows_utf8[rows_offsets[i]:rows_offsets[i + 1]]``, as in Arrow
    (https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-layout). An array of fixed-width texts
    would take four bytes per row for each character of the longest text.

    Args:
        path: of the file, ``.npz``.
        rows: (n, ...) numbers, or n texts (str, or UTF-8 bytes).
        label: (n,) class names or integers; ``None`` if unknown.

    Raises:
        DataError: rows are neither numbers nor texts, or labels differ from them in number; or the file cannot be
            written.
    """
    given = _given(rows)
    arrays: dict[str, Any]
    if given.dtype.kind in "biuf" and given.ndim:
        arrays = {"rows": given}
    elif given.dtype.kind in "OUS" and given.ndim == 1:
        utf8, offsets = _encoded(given.tolist())
        arrays = {"rows_utf8": utf8, "rows_offsets": offsets}
    else:
        raise DataError(f"rows must be (n, ...) numbers or n texts; got {given.dtype} of shape {given.shape}")
    if label is not None:
        arrays["label"] = label_values(label)
        if len(arrays["label"]) != len(given):
            raise DataError(f"there must be a label for each of the {len(given)} rows; got {len(arrays['label'])}")
    try:
        with Path(path).open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def load_rows(
    path: Path | str, classes: Sequence[str] | None = None, form: RowForm | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads rows and labels from a file of any source: ``.npz``, CSV, Parquet, Arrow or JSON lines.

    Args:
        path: of the file.
        classes: (C,) names of the ids 0 to C - 1; ``None`` if there are none.
        form: the configuration's ``rows``, for shape and named columns of tables
            (:func:`cascade.rows.table_rows.read_table_rows`).

    Returns:
        (n, ...) rows, texts as an object array of str; (n,) int64 labels >= 0, ``None`` if the file has none.

    Raises:
        DataError: the file is missing or damaged, holds other arrays, or the arrays contradict each other; or a label
            is not one of the classes.
    """
    if is_table_file(path):
        rows, values = read_table_rows(path, form)
        try:
            return rows, None if values is None else label_ids(values, classes)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    try:
        arrays = load_arrays(path, ARRAYS, DataError)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    try:
        rows = _rows(arrays)
        label = label_ids(arrays["label"], classes) if "label" in arrays else None
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if label is not None and len(label) != len(rows):
        raise DataError(f"{path}: label must be {len(rows)} integers or texts, one per row; got {len(label)}")
    return rows, label


def _rows(arrays: dict[str, np.ndarray]) -> np.ndarray:
    has_texts = [name in arrays for name in ("rows_utf8", "rows_offsets")]
    if any(has_texts) and (not all(has_texts) or "rows" in arrays):
        raise DataError("rows_utf8 and rows_offsets belong together, and replace rows")
    if all(has_texts):
        return _decoded(arrays["rows_utf8"], arrays["rows_offsets"])
    if "rows" not in arrays or not arrays["rows"].ndim:
        raise DataError("there must be an array 'rows' of (n, ...) numbers (and 'label', if labels are known)")
    rows = arrays["rows"]
    if rows.dtype.kind == "S" and rows.ndim == 1:
        return _objects([_decode(value, row) for row, value in enumerate(rows.tolist())])
    return rows


def _given(rows: Any) -> np.ndarray:
    refuse_masked(rows, DataError)
    # NumPy would convert numbers among texts to texts.
    has_texts = isinstance(rows, list | tuple) and (not rows or any(isinstance(row, str | bytes) for row in rows))
    try:
        return np.array(rows, dtype=object) if has_texts else np.asarray(rows)
    except ValueError as error:
        raise DataError("rows must all have the same shape, or all be texts") from error


def _encoded(texts: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """All texts as UTF-8 (uint8), and their offsets (n + 1, int64)."""
    encoded = [_encode(text, row) for row, text in enumerate(texts)]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def _encode(text: Any, row: int) -> bytes:
    if isinstance(text, bytes):
        _decode(text, row)
        return text
    if not isinstance(text, str):
        raise DataError(f"rows must all be texts; row {row} is {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"row {row} cannot be written as UTF-8: {error}") from error


def _decoded(utf8: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n,) object array of str."""
    if utf8.dtype != np.uint8 or utf8.ndim != 1:
        raise DataError(f"rows_utf8 must be (bytes,) uint8; got {utf8.dtype} of shape {utf8.shape}")
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or not len(offsets):
        raise DataError(f"rows_offsets must be (n + 1,) integers; got {offsets.dtype} of shape {offsets.shape}")
    places = offsets.astype(np.int64)
    falls = np.flatnonzero(np.diff(places) < 0)
    if len(falls):
        row = int(falls[0])
        raise DataError(
            f"rows_offsets must not decrease; row {row} starts at {offsets[row]} and ends at {offsets[row + 1]}"
        )
    if places[0] != 0 or places[-1] != len(utf8):
        raise DataError(
            f"rows_offsets must start with 0 and end with the length of rows_utf8, {len(utf8)}; they go from "
            f"{offsets[0]} to {offsets[-1]} (row {0 if places[0] else len(places) - 2})"
        )
    content, bounds = utf8.tobytes(), places.tolist()
    ranges = itertools.pairwise(bounds)
    return _objects([_decode(content[begin:end], row) for row, (begin, end) in enumerate(ranges)])


def _decode(value: bytes, row: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"row {row} is not UTF-8: {error}") from error


def _objects(texts: Sequence[str]) -> np.ndarray:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
