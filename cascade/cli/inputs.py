"""What several verbs read: rows with labels, tables, configurations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
import typer

from cascade.cli.console import console
from cascade.errors import DataError
from cascade.labels import label_ids
from cascade.rows_file import load_rows as load_rows_file

__all__ = ["DatasetOption", "RowsOption", "SplitOption", "load_row", "load_rows"]

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Name of a data set (see 'cascade data').")]
RowsOption = Annotated[
    Path | None, typer.Option("--rows", help="An .npz file with 'rows' (numbers or texts) and 'label' (ids or names).")
]
SplitOption = Annotated[str, typer.Option("--split", help="Part of the data set: train or test.")]


def load_rows(
    dataset: str | None, split: str, rows_file: Path | None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads rows from a data set or a file; exactly one of them is given.

    Args:
        dataset: name of a data set.
        split: part of it, "train" or "test".
        rows_file: a file (``cascade.rows_file``).
        classes: (C,) names of the ids 0 to C - 1, which labels may be.

    Returns:
        (n, ...) rows and (n,) int64 labels >= 0; ``None`` where a file has no labels.

    Raises:
        DataError: it cannot be had, or a label is not one of the classes.
        typer.BadParameter: neither or both are given, or the split is unknown.
    """
    if (dataset is None) == (rows_file is None):
        raise typer.BadParameter("give either --dataset or --rows")
    if rows_file is not None:
        return load_rows_file(rows_file, classes)
    if split not in ("train", "test"):
        raise typer.BadParameter(f"--split must be train or test; got {split!r}")
    from cascade import datasets

    datasets.fetch(str(dataset), on_note=console.print)
    rows, label = datasets.load(str(dataset), cast(Literal["train", "test"], split))
    return rows, label_ids(label, classes)


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
