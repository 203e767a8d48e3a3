"""``cascade import``: a log of answers as a score table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cascade.cli.shared.console import JsonOption, print_result

if TYPE_CHECKING:
    from cascade.calibration import ScoreTable

__all__ = ["import_log"]

Value = TypeVar("Value")

LogArgument = Annotated[
    Path, typer.Argument(metavar="LOG", help="CSV, Parquet, Arrow or JSONL file: a row for each input.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="Column of the log that is 'label', or a stage's 'prediction', 'confidence' or 'cost', such as "
        "small.prediction=pred_a. Repeatable.",
        show_default="columns of these names",
    ),
]
CostOption = Annotated[
    list[str] | None,
    typer.Option("--cost", metavar="STAGE=COST", help="Constant cost per row of a stage. Repeatable."),
]
StagesOption = Annotated[
    str | None, typer.Option(help="Stages, cheapest first, such as small,big.", show_default="the log's, in its order")
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        help="Names of the classes 0 to C - 1, such as ham,spam.", show_default="the names in the log, sorted"
    ),
]


def import_log(
    log: LogArgument,
    out: Annotated[Path, typer.Option(help="Score table to write.")] = Path("scores.npz"),
    column: ColumnOption = None,
    cost: CostOption = None,
    cost_unit: Annotated[str, typer.Option(help="Unit of the costs.")] = "ms",
    stages: StagesOption = None,
    classes: ClassesOption = None,
    ignore_others: Annotated[bool, typer.Option("--ignore-others", help="Leave all other columns out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a score table from a log of answers: predictions and confidences of models that ran anywhere."""
    from cascade.calibration import ScoreTable
    from cascade.errors import InputError

    if out.exists() and log.exists() and out.samefile(log):
        raise InputError(f"{out} is the log; choose another file with --out")
    table = ScoreTable.from_log(
        log,
        _pairs("--column", column, str),
        _pairs("--cost", cost, float),
        _names(stages),
        _names(classes),
        cost_unit=cost_unit,
        ignore_others=ignore_others,
    )
    table.save(out)
    print_result({"scores": str(out)} | _facts(table), as_json)
    names, means = table.stage.tolist(), table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    if (means[1:] < means[:-1]).any():
        ordered = ",".join(names[k] for k in means.argsort(kind="stable"))
        typer.echo(f"warning: the stages are not in the order of their costs; consider --stages {ordered}", err=True)


def _pairs(option: str, texts: Sequence[str] | None, kind: Callable[[str], Value]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            if not (name and equals and value) or name in found:
                raise ValueError
            found[name] = kind(value)
        except ValueError as error:
            wanted = "NAME=COLUMN" if kind is str else "STAGE=COST with a number"
            raise typer.BadParameter(f"{option} must be {wanted}, each name once; got {text!r}") from error
    return found


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _facts(table: "ScoreTable") -> dict[str, Any]:
    names = table.stage.tolist()
    cost = table.cost if table.cost.ndim == 1 else table.cost.mean(axis=0)
    gain = table.agrees if table.label is None else table.correct
    return {
        "rows": len(table),
        "agreement with the last stage" if table.label is None else "accuracy": dict(zip(names, gain.mean(0).tolist())),
        "cost": dict(zip(names, cost.tolist())),
        "cost_unit": table.cost_unit,
        "classes": None if table.classes is None else table.classes.tolist()[:20],
    }
