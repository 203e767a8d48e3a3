"""``cascade collect``: every stage's answers on a labelled set, as a score table."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.console import JsonOption, console, print_result
from cascade.cli.inputs import DatasetOption, RowsOption, SplitOption, load_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cascade.stage import Stage

__all__ = ["collect"]


def collect(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (YAML).")],
    dataset: DatasetOption = None,
    split: SplitOption = "test",
    rows_file: RowsOption = None,
    out: Annotated[Path, typer.Option(help="Score table to write.")] = Path("scores.npz"),
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first rows only.")] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows a batch.")] = 64,
    cost: Annotated[
        str, typer.Option(help="What a stage costs: 'time' (ms a row), 'flops', 'money' or 'energy' (mJ a row).")
    ] = "time",
    price_per_hour: Annotated[float | None, typer.Option(min=0, help="Of this machine, for '--cost money'.")] = None,
    measure: Annotated[
        Path | None, typer.Option(help="Also time batches of 1, 2, 4, ... rows, and write the times here (JSON).")
    ] = None,
    scores: Annotated[bool, typer.Option(help="Keep all class probabilities.")] = True,
    resume: Annotated[bool, typer.Option(help="Go on from what a run that stopped left beside --out.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Run every stage on every row, once, and write the score table."""
    from cascade.cascade import load_stages
    from cascade.collect import collect as collect_scores
    from cascade.config import CascadeConfig
    from cascade.meter import COST_UNIT
    from cascade.partial_collection import PartialCollection
    from cascade.rows import check_rows

    if cost not in COST_UNIT:
        raise typer.BadParameter(f"--cost must be one of {', '.join(COST_UNIT)}; got {cost!r}")
    config = CascadeConfig.load(config_path)
    for path in (out, measure):
        _check_writable(path, rows_file)
    rows, label = load_rows(dataset, split, rows_file, config.classes)
    rows = check_rows(rows[:limit], config.rows)
    stages = load_stages(config.stages, config_path.resolve().parent)
    partial = PartialCollection(out.with_name(f"{out.name}.partial"))
    if not resume:
        partial.remove()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json) as bar, _sigterm_as_exit():
        tasks = {stage.name: bar.add_task(stage.name, total=len(rows)) for stage in stages}
        table = collect_scores(
            stages,
            rows,
            None if label is None else label[:limit],
            classes=config.classes,
            batch_rows=batch_rows,
            cost=cost,
            price_per_hour=price_per_hour,
            keep_scores=scores,
            partial=partial.folder,
            on_rows=lambda name, done: bar.update(tasks[name], completed=done),
            on_note=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
        )
    table.save(out)
    partial.remove()
    if measure is not None:
        _measure(stages, rows, batch_rows, measure)
    accuracy = None if table.label is None else dict(zip(table.stage.tolist(), table.correct.mean(axis=0).tolist()))
    mean_cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    result = {
        "scores": str(out),
        "rows": len(table),
        "accuracy": accuracy,
        "cost": dict(zip(table.stage.tolist(), mean_cost.tolist())),
        "cost_unit": table.cost_unit,
        "measured": None if measure is None else str(measure),
    }
    print_result(result, as_json)


def _check_writable(path: Path | None, rows_file: Path | None) -> None:
    """Refuses before any long work what could not be written after it.

    Raises:
        InputError: the folder is missing or may not be written to, or the path is no file, or the file of the rows.
    """
    from cascade.errors import InputError

    if path is None:
        return
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it is not a file")
    if not all(os.access(each, os.W_OK) for each in (path.parent, path) if each.exists()):
        raise InputError(f"{path} cannot be written: permission denied")
    if rows_file is not None and path.exists() and rows_file.exists() and path.samefile(rows_file):
        raise InputError(f"{path} holds the rows; give another file for the result")


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the work like Ctrl-C, by an exception, so that what there is can be saved."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _measure(stages: "Sequence[Stage]", rows: "np.ndarray", largest: int, out: Path) -> None:
    import json

    from cascade.machine import describe_machine
    from cascade.measure import measure

    with console.status("timing batches"):
        costs = measure(stages, rows, largest=largest)
    result = {"machine": describe_machine(), "stages": [each.to_dict() for each in costs]}
    out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
