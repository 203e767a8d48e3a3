"""``cascade evaluate``: what a policy gives on a score table."""

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import JsonOption, print_result

__all__ = ["evaluate"]


def evaluate(
    scores: Annotated[Path, typer.Option(help="Score table, of rows that the policy was not calibrated on.")],
    policy_path: Annotated[Path, typer.Option("--policy", help="Policy.")],
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Level of the confidence intervals.")] = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Replay a policy on a score table: accuracy, cost and shares, with confidence intervals."""
    from cascade.calibration import Policy, ScoreTable
    from cascade.calibration import evaluate as replay

    print_result(replay(ScoreTable.load(scores), Policy.load(policy_path), level).to_dict(), as_json)
