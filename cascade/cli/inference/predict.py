"""``cascade predict``: bulk scoring of files."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

__all__ = ["predict"]


def predict(
    config_path: ConfigArgument,
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            help="File, or folder of files: CSV, Parquet, Arrow, JSONL, .npz, .npy; or folder of images: JPEG, PNG, "
            "WebP.",
        ),
    ],
    folder: Annotated[Path, typer.Option("--output", help="Folder of the answers (Parquet); continued.")],
    policy: PolicyOption = None,
    part_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows that are read, scored and written together.", show_default="16 MiB, 64 to 16384"
        ),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Run on Ray, on all processors or GPUs: the cluster in RAY_ADDRESS, else a Ray of its own. Without it "
            "the job runs in this process.",
        ),
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on, such as auto; implies --ray.", show_default=False)
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Scale images to the size of the rows (bilinear).")] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Go on after images that cannot be read; their rows have an error.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Score the rows of files, part by part, into Parquet files; an interrupted job continues."""
    from cascade.bulk.open_job import BulkOptions, open_job

    if ray and address is None:
        address = os.environ.get("RAY_ADDRESS") or None
    options = BulkOptions(
        config_path, policy, source, folder, part_rows, resize, skip_broken, ray or address is not None, address
    )
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows{task.fields[total_rows]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console, disable=as_json) as bar,
        open_job(options, lambda line: console.print(line, highlight=False)) as (job, scorer),
    ):
        of_total = "" if job.total is None else f" of {job.total:,}"
        task = bar.add_task("", total=job.total, rate="", total_rows=of_total)
        scored = 0

        def on_part(rows: int, is_new: bool) -> None:
            nonlocal scored
            scored += rows if is_new else 0
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, advance=rows, rate=f"{scored / elapsed:,.0f} rows/s" if scored and elapsed else "there")

        summary = job.run(scorer, on_part)
    print_result({"output": str(folder)} | summary, as_json)
