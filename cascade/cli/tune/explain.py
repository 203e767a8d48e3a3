"""``cascade explain``: how one row gets its answer, at this and other operating points."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade.cli.shared.console import JsonOption
from cascade.cli.shared.inputs import ConfigArgument, DatasetOption, RowsOption, SplitOption, load_row, load_rows
from cascade.cli.tune.evaluate import print_detection

if TYPE_CHECKING:
    import numpy as np

    from cascade.config import CascadeConfig
    from cascade.explanation import Explanation, FrontierPiece

__all__ = ["explain"]


def explain(
    config_path: ConfigArgument,
    row_file: Annotated[
        Path | None, typer.Option("--row", help="File with one row: .npy, or JSON (nested lists, or a text).")
    ] = None,
    rows_file: RowsOption = None,
    dataset: DatasetOption = None,
    split: SplitOption = "test",
    index: Annotated[int, typer.Option(min=0, help="Index of the row in --rows or --dataset, from 0.")] = 0,
    policy_paths: Annotated[
        list[Path] | None,
        typer.Option(
            "--policy", help="Policy, or policy set; others are compared with the first.", show_default="the config's"
        ),
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Score table, for the answers along its frontier.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run every stage on one row: answers, confidences, thresholds, costs, and the stage that answers."""
    from cascade.calibration import PolicySet, ScoreTable, evaluate
    from cascade.cascade import check_models, check_table, load_stages
    from cascade.config import CascadeConfig
    from cascade.explanation import explain as explain_row
    from cascade.rows.checks import check_rows

    config = CascadeConfig.load(config_path)
    gears = (gear for path in policy_paths or [config.policy] for gear in PolicySet.load(path).gears)
    policies = [check_models(gear, config.stages) for gear in gears]
    table = None
    if scores is not None:
        table = ScoreTable.load(scores)
        check_table(table, config)
    row, label = _row(row_file, rows_file, dataset, split, index, config)
    stages = load_stages(config.stages, config_path.resolve().parent, config.classes)
    explanations, pieces = explain_row(stages, check_rows(row, config.rows), policies, table)
    names = config.classes
    if as_json:
        others = [explanation.to_dict() for explanation in explanations[1:]]
        result = explanations[0].to_dict() | {
            "label": label,
            "other_policies": others,
            "frontier": [vars(p) for p in pieces],
        }
        typer.echo(json.dumps(result, sort_keys=True))
        return
    _print_explanation(explanations[0], names, label)
    _print_others(explanations[1:], names)
    gain = "agreement" if table is None or table.label is None else "accuracy"
    seen = None if table is None else evaluate(table, policies[0])
    if seen is not None and seen.detection is not None:
        gain = "recall"
        print_detection(seen, policies[0].certificate)
    _print_pieces(pieces, explanations[0].cost_unit, gain, names)


def _row(
    row_file: Path | None,
    rows_file: Path | None,
    dataset: str | None,
    split: str,
    index: int,
    config: "CascadeConfig",
) -> "tuple[np.ndarray, int | None]":
    """One row, (1, ...), and its label, if known."""
    if row_file is not None:
        if rows_file is not None or dataset is not None:
            raise typer.BadParameter("give one of --row, --rows and --dataset")
        return load_row(row_file, config.rows), None
    rows, label = load_rows(dataset, split, rows_file, config.classes, config.rows)
    if index >= len(rows):
        raise typer.BadParameter(f"--index must be less than the number of rows, {len(rows)}; got {index}")
    return rows[index : index + 1], None if label is None else int(label[index])


def _class(answer: int, names: tuple[str, ...] | None) -> str:
    return escape(names[answer]) if names is not None and 0 <= answer < len(names) else str(answer)


def _threshold(value: float | None) -> str:
    return "" if value is None else "never" if value > 1 else f"{value:.4f}"


def _print_explanation(explanation: "Explanation", names: tuple[str, ...] | None, label: int | None) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0))
    titles = ("stage", "answer", "raw", "calibrated", "threshold", "defer below", "cost", "so far", "")
    for title in titles:
        table.add_column(title, overflow="fold")
    for stage in explanation.stages:
        verdict = "defers" if stage.asked else "not run"
        if stage.answers:
            verdict = "abstains" if explanation.abstained else "answers"
        table.add_row(
            escape(stage.stage),
            _class(stage.answer, names),
            f"{stage.raw_confidence:.4f}",
            f"{stage.confidence:.4f}",
            _threshold(stage.threshold),
            _threshold(stage.defer_below),
            f"{stage.cost:.4g}",
            "" if stage.running_cost is None else f"{stage.running_cost:.4g}",
            verdict,
        )
    output = Console()
    output.print(table)
    stage = explanation.answering
    truth = "" if label is None else f"; the label is {_class(label, names)}"
    output.print(
        f"{_ending(explanation, names)}, at a cost of {stage.running_cost:.4g} "
        f"{escape(explanation.cost_unit)}, under policy {explanation.policy_version}{truth}.",
        highlight=False,
    )


def _ending(explanation: "Explanation", names: tuple[str, ...] | None) -> str:
    stage = explanation.answering
    name, answer = escape(stage.stage), _class(stage.answer, names)
    return f"{name} guesses {answer} and abstains" if explanation.abstained else f"{name} answers {answer}"


def _print_others(explanations: "list[Explanation]", names: tuple[str, ...] | None) -> None:
    for explanation in explanations:
        stage = explanation.answering
        Console().print(
            f"- under policy {explanation.policy_version}: {_ending(explanation, names)} ({stage.confidence:.4f}), "
            f"at {stage.running_cost:.4g} {escape(explanation.cost_unit)}",
            highlight=False,
        )


def _print_pieces(pieces: "list[FrontierPiece]", unit: str, gain: str, names: tuple[str, ...] | None) -> None:
    if not pieces:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), title="Along the frontier of the score table", title_justify="left")
    for title in (f"mean cost ({unit})", gain, "points", "answering stage", "answer", "cost"):
        table.add_column(escape(title), overflow="fold")
    for piece in pieces:
        cells: tuple[Any, ...] = (_range(piece.mean_cost, ".4g"), _range(piece.gain, ".4f"), str(piece.points))
        table.add_row(*cells, escape(piece.stage), _class(piece.answer, names), _range(piece.cost, ".4g"))
    Console().print(table)


def _range(bounds: tuple[float, float], form: str) -> str:
    low, high = (format(bound, form) for bound in bounds)
    return low if low == high else f"{low} to {high}"
