"""``cascade evaluate``: what a policy gives on a score table."""

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import JsonOption, print_result
from cascade.cli.inputs import BatchRowsOption, RateOption, arrivals_of

__all__ = ["evaluate"]


def evaluate(
    scores: Annotated[Path, typer.Option(help="Score table, of rows that the policy was not calibrated on.")],
    policy_path: Annotated[Path, typer.Option("--policy", help="Policy.")],
    gear: Annotated[int, typer.Option(min=0, help="Of a policy set; 0 is the best.")] = 0,
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Level of the confidence intervals.")] = 0.95,
    batch_rows: BatchRowsOption = None,
    rate: RateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a policy on a score table: accuracy, cost and shares, with confidence intervals."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.calibration import evaluate as replay

    gears = PolicySet.load(policy_path).gears
    if gear >= len(gears):
        raise typer.BadParameter(f"{policy_path} has {len(gears)} gears; got --gear {gear}")
    table = ScoreTable.load(scores)
    arrivals = arrivals_of(batch_rows, rate, table.has_curves)
    print_result(replay(table, gears[gear], level, arrivals).to_dict(), as_json)
