"""``cascade collect``: every stage's answers on a labelled set, as a score table."""

from pathlib import Path
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
    as_json: JsonOption = False,
) -> None:
    """Run every stage on every row, once, and write the score table."""
    from cascade.cascade import load_stages
    from cascade.collect import COST_UNIT
    from cascade.collect import collect as collect_scores
    from cascade.config import CascadeConfig
    from cascade.rows import check_rows

    if cost not in COST_UNIT:
        raise typer.BadParameter(f"--cost must be one of {', '.join(COST_UNIT)}; got {cost!r}")
    config = CascadeConfig.load(config_path)
    stages = load_stages(config.stages, config_path.resolve().parent, config.classes)
    rows, label = load_rows(dataset, split, rows_file)
    rows = check_rows(rows[:limit], config.rows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json) as bar:
        tasks = {stage.name: bar.add_task(stage.name, total=len(rows)) for stage in stages}
        table = collect_scores(
            stages,
            rows,
            None if label is None else label[:limit],
            batch_rows=batch_rows,
            cost=cost,
            price_per_hour=price_per_hour,
            keep_scores=scores,
            on_rows=lambda name, done: bar.update(tasks[name], completed=done),
        )
    table.save(out)
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


def _measure(stages: "Sequence[Stage]", rows: "np.ndarray", largest: int, out: Path) -> None:
    import json

    from cascade.machine import describe_machine
    from cascade.measure import measure

    with console.status("timing batches"):
        costs = measure(stages, rows, largest=largest)
    result = {"machine": describe_machine(), "stages": [each.to_dict() for each in costs]}
    out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
