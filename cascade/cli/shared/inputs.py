"""Options and loaders that several verbs share: rows with labels, arrivals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
import typer

from cascade.cli.shared.console import console
from cascade.errors import DataError
from cascade.files.npy import read_npy
from cascade.rows.checks import check_rows
from cascade.rows.labels import label_ids
from cascade.rows.rows_file import load_rows as load_rows_file

if TYPE_CHECKING:
    from cascade.calibration.costs.arrivals import Arrivals
    from cascade.config import CascadeConfig
    from cascade.rows.checks import RowForm

__all__ = [
    "BatchRowsOption",
    "ConfigArgument",
    "DatasetOption",
    "MaxAccuracyDropOption",
    "MaxCostOption",
    "MinRecallOption",
    "PolicyOption",
    "PositiveOption",
    "RateOption",
    "RowsOption",
    "SplitOption",
    "TargetAccuracyOption",
    "TargetAgreementOption",
    "arrivals_of",
    "load_checked_rows",
    "load_row",
    "load_rows",
]

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (YAML).")]
PolicyOption = Annotated[Path | None, typer.Option("--policy", help="Policy.", show_default="the config's")]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Name of a data set (see 'cascade data').")]
RowsOption = Annotated[Path | None, typer.Option("--rows", help="Rows and labels: .npz, CSV, Parquet, Arrow or JSONL.")]
BatchRowsOption = Annotated[
    str | None,
    typer.Option(
        help="Rows that arrive together, such as 64, or sizes of requests with their shares, such as 1:0.9,64:0.1; the "
        "predicted costs are for these arrivals.",
        show_default="64, or the policy's",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Rows per second at each gateway, in requests of --batch-rows rows.",
        show_default="1 row",
    ),
]
TargetAccuracyOption = Annotated[float | None, typer.Option(help="Minimum accuracy, in [0, 1].")]
MaxAccuracyDropOption = Annotated[
    float | None, typer.Option(help="Maximum loss of accuracy compared with the last stage.")
]
TargetAgreementOption = Annotated[float | None, typer.Option(help="Minimum agreement with the last stage.")]
MaxCostOption = Annotated[float | None, typer.Option(help="Maximum mean cost per row, in the table's unit.")]
MinRecallOption = Annotated[
    float | None, typer.Option(help="Minimum share of the rows labelled --positive that are answered as it.")
]
PositiveOption = Annotated[
    str | None,
    typer.Option(
        help="Class of --min-recall: its name, or its number from 0.",
        show_default="of two classes, the one that no stage rejects as",
    ),
]
SplitOption = Annotated[str, typer.Option("--split", help="Part of the data set: train or test.")]


def arrivals_of(batch_rows: str | None, rate: float | None, has_curves: bool) -> "Arrivals | None":
    """The arrivals in the options; ``None`` without them.

    Raises:
        typer.BadParameter: an option is invalid, or the costs do not depend on the arrivals.
    """
    from cascade.calibration.costs.arrivals import RowsAtRate, RowsTogether

    if batch_rows is None and rate is None:
        return None
    if not has_curves:
        raise typer.BadParameter(
            "--batch-rows and --rate require a score table with cost curves; this one has constant costs per row, so "
            "collect it again with 'cascade collect'"
        )
    try:
        together = RowsTogether.parse(batch_rows or "1")
        if rate is None:
            return together
        if len(together.rows) > 1:
            raise ValueError("--rate needs requests of one size (--batch-rows)")
        return RowsAtRate(rate, together.rows[0])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def load_rows(
    dataset: str | None,
    split: str,
    rows_file: Path | None,
    classes: Sequence[str] | None = None,
    form: "RowForm | None" = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads rows from a data set or a file; exactly one of them must be given.

    Args:
        dataset: name of a data set.
        split: part of the data set, "train" or "test".
        rows_file: file of rows, see :mod:`cascade.rows.rows_file`.
        classes: (C,) names of the classes 0 to C - 1, which labels may use.
        form: the configuration's ``rows``, for tables.

    Returns:
        (n, ...) rows and (n,) int64 labels >= 0; ``None`` for the labels if a file has none.

    Raises:
        DataError: the rows cannot be loaded, or a label is not one of the classes.
        typer.BadParameter: neither or both are given, or the split is unknown.
    """
    if (dataset is None) == (rows_file is None):
        raise typer.BadParameter("give either --dataset or --rows")
    if rows_file is not None:
        return load_rows_file(rows_file, classes, form)
    if split not in ("train", "test"):
        raise typer.BadParameter(f"--split must be train or test; got {split!r}")
    from cascade import datasets

    datasets.fetch(str(dataset), on_note=console.print)
    rows, label = datasets.load(str(dataset), cast(Literal["train", "test"], split))
    return rows, label_ids(label, classes)


def load_checked_rows(
    config: "CascadeConfig", dataset: str | None, split: str, rows_file: Path | None, limit: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Like :func:`load_rows`, with the first rows only, of the configured shape and dtype.

    Raises:
        RowsError: the rows do not match the configuration.
    """
    rows, label = load_rows(dataset, split, rows_file, config.classes, config.rows)
    return check_rows(rows[:limit], config.rows), None if label is None else label[:limit]


def load_row(path: Path, form: "RowForm") -> np.ndarray:
    """Loads one row from a ``.npy`` or JSON file.

    Args:
        path: of the file.
        form: the configuration's ``rows``.

    Returns:
        (1, ...).

    Raises:
        DataError: the file cannot be read, or has no row.
    """
    try:
        if path.suffix == ".npy":
            return read_npy(path.read_bytes(), str(path), DataError)[None]
        content = json.loads(path.read_text(encoding="utf-8"))
        if form.columns is not None:
            return check_rows([content], form)
        row = np.asarray(content)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} must be a .npy or JSON file with one row: {error}") from error
    return row.astype(object)[None] if row.dtype.kind == "U" else row[None]
