"""``cascade report``: an HTML page about a policy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.shared.console import JsonOption, console, print_result

if TYPE_CHECKING:
    from cascade.calibration import Policy
    from cascade.reports import ReportTable
    from cascade.reports.measures.replay import Replay

__all__ = ["report"]


def report(
    scores: Annotated[Path, typer.Option(help="Score table (.npz) to replay the policy on.")],
    policy: Annotated[Path, typer.Option(help="Policy file (JSON).")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    gear: Annotated[int, typer.Option(min=0, help="Gear of a policy set; 0 is the most accurate one.")] = 0,
    calibration_scores: Annotated[
        Path | None, typer.Option(help="Score table of other rows, for certifying points of the frontier.")
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="delta of each certified point, in (0, 1).", show_default="the policy's, or 0.05"),
    ] = None,
    slices: Annotated[
        Path | None, typer.Option(help="File .npz with one array per kind of slice, of one integer or text per row.")
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(
            help="Result of 'cascade bench run --target in-process', for the realised time beside the predicted one."
        ),
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder to write the figures to (PNG).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a page about a policy: its targets, frontier, stages, confidences, and where the cascade loses accuracy."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.reports import load_slices, write_report

    if delta is not None and (calibration_scores is None or not 0 < delta < 1):
        raise typer.BadParameter(f"--delta must be in (0, 1), and needs --calibration-scores; got {delta!r}")
    gears = PolicySet.load(policy).gears
    if gear >= len(gears):
        raise typer.BadParameter(f"{policy} has {len(gears)} gears; got --gear {gear}")
    table = ScoreTable.load(scores)
    with console.status("searching, certifying, drawing ..."):
        replay = write_report(
            table,
            gears[gear],
            out,
            [] if bench is None else [_realised(bench, gears[gear])],
            calibration=None if calibration_scores is None else ScoreTable.load(calibration_scores),
            delta=delta,
            slices=None if slices is None else load_slices(slices, len(table)),
            pictures=pictures,
        )
    print_result({"report": str(out)} | _facts(replay), as_json)


def _facts(replay: "Replay") -> dict[str, Any]:
    evaluation = replay.evaluation
    return {
        "policy_version": replay.policy.version,
        "guarantee": replay.judgement.guarantee,
        "verdicts": [f"{each.claim}: {each.words}" for each in replay.judgement.targets],
        "rows": evaluation.rows,
        "accuracy": evaluation.accuracy,
        **_detection(replay),
        "agreement": evaluation.agreement,
        "mean_cost": evaluation.mean_cost,
        "cost_unit": evaluation.cost_unit,
        "cost_ratio": replay.cost_ratio,
        "stage_share": evaluation.stage_share.tolist(),
    }


def _detection(replay: "Replay") -> dict[str, Any]:
    seen = replay.evaluation.detection
    return (
        {} if seen is None else {"positive": replay.positive_name, "recall": seen.recall, "precision": seen.precision}
    )


def _realised(path: Path, policy: "Policy") -> "ReportTable":
    """Predicted and realised time from the result file of a benchmark."""
    from cascade.errors import InputError
    from cascade.reports import ReportTable
    from cascade.reports.result_file import load_prediction

    seen = load_prediction(path)
    if seen["policy_version"] != policy.version:
        raise InputError(
            f"{path} is of policy {seen['policy_version']}, the report is about {policy.version}; measure again"
        )
    rows = [
        ("predicted time per row (ms)", f"{seen['predicted_ms']:.4g}"),
        ("realised time per row (ms)", f"{seen['realised_ms']:.4g}"),
        ("predicted over realised", f"{seen['ratio']:.2f}"),
    ]
    note = f"In-process, {seen['arrivals']}." + (f" {seen['warning']}." if seen["warning"] else "")
    return ReportTable("Predicted and realised time", ("", ""), rows, note)
