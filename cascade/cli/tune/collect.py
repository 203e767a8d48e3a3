"""``cascade collect``: every stage's predictions on a set of rows, as a score table."""

import math
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.shared.inputs import ConfigArgument, DatasetOption, RowsOption, SplitOption, load_checked_rows

if TYPE_CHECKING:
    from cascade.calibration import ScoreTable
    from cascade.stage import Stage

__all__ = ["collect", "collection_progress"]

CostOption = Annotated[
    str, typer.Option(help="Cost of a stage: 'time' (ms per row), 'flops', 'money' or 'energy' (mJ per row).")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Processor threads; replicas of Ray Serve have 1 by default.", show_default="this machine's"
    ),
]


def collect(
    config_path: ConfigArgument,
    dataset: DatasetOption = None,
    split: SplitOption = "test",
    rows_file: RowsOption = None,
    out: Annotated[Path, typer.Option(help="Score table to write.")] = Path("scores.npz"),
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many rows.")] = None,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows per batch.")] = 64,
    cost: CostOption = "time",
    price_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of this machine per hour, for '--cost money'.")
    ] = None,
    curve_seconds: Annotated[
        float, typer.Option(min=0, help="Maximum seconds for each stage's cost curve; 0 for constant costs per row.")
    ] = 3.0,
    threads: ThreadsOption = None,
    scores: Annotated[bool, typer.Option(help="Keep all class probabilities.")] = True,
    resume: Annotated[
        bool, typer.Option(help="Continue an interrupted run, from the files that it left beside --out.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run every stage on every row once, and write the score table."""
    from cascade.cascade import load_stages
    from cascade.collection.collect import collect as collect_scores
    from cascade.collection.level_times import level_shares
    from cascade.collection.measure import use_threads
    from cascade.collection.meter import COST_UNIT
    from cascade.collection.partial_collection import PartialCollection
    from cascade.config import CascadeConfig

    if cost not in COST_UNIT:
        raise typer.BadParameter(f"--cost must be one of {', '.join(COST_UNIT)}; got {cost!r}")
    config = CascadeConfig.load(config_path)
    _check_writable(out, rows_file)
    rows, label = load_checked_rows(config, dataset, split, rows_file, limit)
    stages = load_stages(config.stages, config_path.resolve().parent, config.classes)
    if threads is not None:
        use_threads(threads)
    partial = PartialCollection(out.with_name(f"{out.name}.partial"))
    if not resume:
        partial.remove()
    with collection_progress(stages, len(rows), curve_seconds > 0, as_json) as callbacks, _sigterm_as_exit():
        table = collect_scores(
            stages,
            rows,
            label,
            classes=config.classes,
            batch_rows=batch_rows,
            cost=cost,
            price_per_hour=price_per_hour,
            keep_scores=scores,
            partial=partial.folder,
            curve_seconds=curve_seconds,
            on_note=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
            **callbacks,
        )
        if config.detection is not None and curve_seconds > 0:
            table = replace(table, level_share=level_shares(stages, rows, config.detection.stride, curve_seconds))
    table.save(out)
    partial.remove()
    print_result({"scores": str(out)} | _facts(table), as_json)


@contextmanager
def collection_progress(stages: "Sequence[Stage]", rows: int, timed: bool, quiet: bool) -> Iterator[dict[str, Any]]:
    """Shows a bar for each stage, and one for the timing of calls.

    Args:
        stages: to be collected.
        rows: number of rows.
        timed: whether calls are timed.
        quiet: show nothing.

    Yields:
        The callbacks "on_rows" and "on_timed" of :func:`cascade.collection.collect.collect`.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet) as bar:
        tasks = {stage.name: bar.add_task(stage.name, total=rows) for stage in stages}
        shares = {stage.name: 0.0 for stage in stages}
        timing = bar.add_task("timing calls", total=100, visible=timed)

        def on_timed(name: str, share: float) -> None:
            shares[name] = share
            bar.update(timing, completed=round(100 * sum(shares.values()) / len(shares)))

        yield {"on_rows": lambda name, done: bar.update(tasks[name], completed=done), "on_timed": on_timed}
        bar.update(timing, completed=100)


def _facts(table: "ScoreTable") -> dict[str, Any]:
    names = table.stage.tolist()
    mean_cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    return {
        "rows": len(table),
        "accuracy": None if table.label is None else dict(zip(names, table.correct.mean(axis=0).tolist())),
        "cost": dict(zip(names, mean_cost.tolist())),
        "cost_unit": table.cost_unit,
        "curves": {name: str(curve) for name, curve in zip(names, table.curves) if curve is not None},
        "measured_on": table.curve_machine,
    } | _on_levels(table, dict(zip(names, mean_cost.tolist())))


def _on_levels(table: "ScoreTable", cost: Mapping[str, float]) -> dict[str, Any]:
    """The costs of the stages that can evaluate whole pyramid levels."""
    if table.level_share is None:
        return {}
    shares = zip(cost, table.level_share.tolist())
    return {"cost_as_first_stage_of_detect": {n: share * cost[n] for n, share in shares if not math.isnan(share)}}


def _check_writable(path: Path, rows_file: Path | None) -> None:
    """Checks before the long run that its result can be written.

    Raises:
        InputError: the folder is missing or not writable, or the path is not a file, or it is the file of the rows.
    """
    from cascade.errors import InputError

    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it is not a file")
    if not all(os.access(each, os.W_OK) for each in (path.parent, path) if each.exists()):
        raise InputError(f"{path} cannot be written: permission denied")
    if rows_file is not None and path.exists() and rows_file.exists() and path.samefile(rows_file):
        raise InputError(f"{path} is the file of the rows; choose another file with --out")


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived. Not an ``Exception``, since those are reported as errors of a stage."""


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Makes SIGTERM raise an exception, as Ctrl-C does, so that finished work is saved."""

    def stop(number: int, _: FrameType | None) -> None:
        raise _Terminated(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Terminated:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)
