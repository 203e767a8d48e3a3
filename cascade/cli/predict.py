"""``cascade predict``: bulk scoring of files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

__all__ = ["predict"]


def predict(
    config_path: ConfigArgument,
    source: Annotated[
        Path, typer.Option("--input", help="File, or folder of files: CSV, Parquet, Arrow, JSONL, .npz, .npy.")
    ],
    folder: Annotated[Path, typer.Option("--output", help="Folder of the answers (Parquet); continued.")],
    policy: PolicyOption = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows that are read, scored and written together.")] = 16384,
    as_json: JsonOption = False,
) -> None:
    """Score the rows of files, part by part, into Parquet files; an interrupted job continues."""
    from cascade.bulk.job import BulkJob
    from cascade.cascade import Cascade
    from cascade.config import CascadeConfig

    cascade = Cascade.load(config_path, policy)
    job = BulkJob(CascadeConfig.load(config_path), cascade, source, folder, part_rows)
    columns = (TextColumn("{task.completed:,.0f} rows"), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=as_json) as bar:
        task = bar.add_task("", total=None, rate="")
        scored = 0

        def on_part(rows: int, is_new: bool) -> None:
            nonlocal scored
            scored += rows if is_new else 0
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, advance=rows, rate=f"{scored / elapsed:,.0f} rows/s" if scored and elapsed else "there")

        summary = job.run(on_part)
    print_result({"output": str(folder)} | summary, as_json)
