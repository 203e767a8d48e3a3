"""``cascade evaluate``: accuracy, cost and guarantees of a policy on a score table."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.inputs import BatchRowsOption, RateOption, arrivals_of

if TYPE_CHECKING:
    from cascade.calibration import Evaluation
    from cascade.calibration.evaluation.judgement import Judgement, TargetJudgement

__all__ = ["evaluate", "print_detection"]


def evaluate(
    scores: Annotated[Path, typer.Option(help="Score table of rows that the policy was not calibrated on.")],
    policy_path: Annotated[Path, typer.Option("--policy", help="Policy, or policy set.")],
    gear: Annotated[int, typer.Option(min=0, help="Gear of a policy set; 0 is the most accurate one.")] = 0,
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Level of the confidence intervals.")] = 0.95,
    batch_rows: BatchRowsOption = None,
    rate: RateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a policy on a score table: accuracy, cost and shares with intervals, and whether its targets hold.

    Exit code 5 if a guaranteed target is violated on these rows.
    """
    from cascade.calibration import PolicySet, ScoreTable, judge
    from cascade.calibration import evaluate as replay
    from cascade.errors import CheckFailed

    gears = PolicySet.load(policy_path).gears
    if gear >= len(gears):
        raise typer.BadParameter(f"{policy_path} has {len(gears)} gears; got --gear {gear}")
    table = ScoreTable.load(scores)
    arrivals = arrivals_of(batch_rows, rate, table.has_curves)
    evaluation = replay(table, gears[gear], level, arrivals)
    result = evaluation.to_dict()
    judgement = judge(table, gears[gear], level)
    if as_json:
        print_result(result | {"judgement": judgement.to_dict()}, as_json)
    else:
        print_result({name: value for name, value in result.items() if name != "detection"}, as_json)
        print_detection(evaluation, gears[gear].certificate)
        _print_judgement(judgement)
    if judgement.violated:
        claims = ", ".join(each.claim for each in judgement.violated)
        raise CheckFailed(f"violated on these {len(table):,} rows: {claims}; collect and calibrate again")


def print_detection(evaluation: "Evaluation", certificate: Mapping[str, Any]) -> None:
    """Prints recall, precision and the rates of the stages, where the policy has a positive class."""
    from cascade.reports.tables.detection_table import detection_tables

    name = certificate.get("positive_name", f"class {certificate.get('positive')}")
    output = Console()
    for part in detection_tables(evaluation, str(name)):
        table = Table(box=None, padding=(0, 2, 0, 0), title=escape(part.title), title_justify="left")
        for title in part.header:
            table.add_column(title, overflow="fold")
        for row in part.rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        output.print()
        output.print(table)
        output.print(part.note, highlight=False)


def _print_judgement(judgement: "Judgement") -> None:
    output = Console()
    output.print(f"\n{judgement.guarantee}", highlight=False)
    for each in judgement.targets:
        output.print(f"- {escape(_sentence(each))}", highlight=False)
    for line in judgement.not_judged:
        output.print(f"- not judged: {escape(line)}", highlight=False)
    output.print(judgement.note, highlight=False)


def _sentence(judged: "TargetJudgement") -> str:
    low, high = judged.interval
    interval = f"{100 * judged.level:g} % interval [{low:.4g}, {high:.4g}]"
    return f"{judged.claim}: {judged.words} ({judged.estimate:.4g}, {interval}, {judged.test})"
