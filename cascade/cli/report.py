"""``cascade report``: what a policy does, as one page."""

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.console import JsonOption, print_result

__all__ = ["report"]


def report(
    scores: Annotated[Path, typer.Option(help="Score table (.npz) to replay the policy on.")],
    policy: Annotated[Path, typer.Option(help="Policy file (JSON).")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    as_json: JsonOption = False,
) -> None:
    """Write a page on a policy: accuracy, cost, frontier, reliability and the flow of the rows."""
    from cascade.calibration import Policy, ScoreTable
    from cascade.reports import write_report

    replay = write_report(ScoreTable.load(scores), Policy.load(policy), out)
    seen = replay.evaluation
    print_result(
        {
            "report": str(out),
            "policy_version": replay.policy.version,
            "rows": seen.rows,
            "accuracy": seen.accuracy,
            "agreement": seen.agreement,
            "mean_cost": seen.mean_cost,
            "cost_unit": seen.cost_unit,
            "cost_ratio": replay.cost_ratio,
            "stage_share": seen.stage_share.tolist(),
        },
        as_json,
    )
