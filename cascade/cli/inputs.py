"""What several verbs read: rows with labels, tables, configurations."""

import json
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import typer

from cascade.calibration.npz import load_arrays
from cascade.cli.console import console
from cascade.errors import DataError

__all__ = ["DatasetOption", "RowsOption", "SplitOption", "load_row", "load_rows"]

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Name of a data set (see 'cascade data').")]
RowsOption = Annotated[Path | None, typer.Option("--rows", help="An .npz file with the arrays 'rows' and 'label'.")]
SplitOption = Annotated[str, typer.Option("--split", help="Part of the data set: train or test.")]


def load_rows(dataset: str | None, split: str, rows_file: Path | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads rows from a data set or a file; exactly one of them is given.

    Returns:
        (n, ...) rows and (n,) labels; ``None`` where a file has no labels.

    Raises:
        DataError: it cannot be had.
        typer.BadParameter: neither or both are given, or the split is unknown.
    """
    if (dataset is None) == (rows_file is None):
        raise typer.BadParameter("give either --dataset or --rows")
    if rows_file is not None:
        return _from_file(rows_file)
    if split not in ("train", "test"):
        raise typer.BadParameter(f"--split must be train or test; got {split!r}")
    from cascade import datasets

    datasets.fetch(str(dataset), on_note=console.print)
    return datasets.load(str(dataset), cast(Literal["train", "test"], split))


def load_row(path: Path) -> np.ndarray:
    """Loads one row from a file of its own.

    Returns:
        (1, ...).

    Raises:
        DataError: it cannot be had.
    """
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))[None]
        row = np.asarray(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} must be an .npy file, or JSON, with one row: {error}") from error
    return row.astype(object)[None] if row.dtype.kind == "U" else row[None]


def _from_file(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        arrays = load_arrays(path, ("rows", "label"), DataError)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    if "rows" not in arrays or not arrays["rows"].ndim:
        raise DataError(f"{path} must be an .npz file with an array 'rows' (and 'label', if labels are known)")
    rows, label = arrays["rows"], arrays.get("label")
    if label is not None and (label.shape != rows.shape[:1] or label.dtype.kind not in "iu"):
        raise DataError(f"{path}: label must be {len(rows)} integers; got {label.dtype} of shape {label.shape}")
    return rows, label
