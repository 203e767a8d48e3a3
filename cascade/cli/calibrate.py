"""``cascade calibrate``: from a score table and a target to a policy."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cascade.cli.console import JsonOption, print_result

__all__ = ["calibrate"]


def calibrate(
    config_path: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Configuration; tells each stage's score and calibrator.")
    ] = None,
    scores: Annotated[Path, typer.Option(help="Score table.")] = Path("scores.npz"),
    target_accuracy: Annotated[float | None, typer.Option(help="Least accuracy, in [0, 1].")] = None,
    max_accuracy_drop: Annotated[float | None, typer.Option(help="Most accuracy lost against the last stage.")] = None,
    target_agreement: Annotated[float | None, typer.Option(help="Least agreement with the last stage.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Most mean cost of a row, in the table's unit.")] = None,
    max_abstain: Annotated[
        float | None,
        typer.Option(help="Most rows left to a person, as a share; accuracy is then that of the answered rows."),
    ] = None,
    delta: Annotated[float, typer.Option(help="Risk that a certified target is missed on rows to come.")] = 0.05,
    guarantee: Annotated[
        str, typer.Option(help="'certified', or 'none' for the best thresholds on the table itself.")
    ] = "certified",
    seed: Annotated[int, typer.Option(help="Of the split of the rows into those that search and those that test.")] = 0,
    routers: Annotated[
        str | None,
        typer.Option(
            help="Rule and calibrator of each stage, such as margin:platt,deferral; one alone counts for all. "
            "[default: the config's, or the table's confidences as they are]"
        ),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Let rows that are hopeless for the middle stages skip them.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Policy to write [default: the config's, or policy.json].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the cheapest policy that keeps a target, or the best one within a budget."""
    from cascade.calibration import Guarantee, ScoreTable
    from cascade.calibration import calibrate as find_policy
    from cascade.cascade import check_table
    from cascade.config import CascadeConfig

    table = ScoreTable.load(scores)
    config = None if config_path is None else CascadeConfig.load(config_path)
    choices = None if config is None else check_table(table, config)
    if routers is not None:
        choices = _parse_routers(routers, table.stages)
    try:
        policy = find_policy(
            table,
            target_accuracy=target_accuracy,
            max_accuracy_drop=max_accuracy_drop,
            target_agreement=target_agreement,
            max_cost=max_cost,
            max_abstain=max_abstain,
            delta=delta,
            guarantee=cast(Guarantee, guarantee),
            seed=seed,
            routers=choices,
            skip=skip,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    out = out or (config.policy if config else Path("policy.json"))
    policy.save(out)
    print_result({"policy": str(out), "version": policy.version} | _summary(policy.to_dict()), as_json)


def _parse_routers(text: str, stages: int) -> list[tuple[str, str]]:
    """(score or head, calibrator) of each stage; "identity" where no calibrator is given."""
    pairs = [part.strip().partition(":") for part in text.split(",")]
    choices = [(name, calibrator or "identity") for name, _, calibrator in pairs]
    return choices * stages if len(choices) == 1 else choices


def _summary(policy: dict[str, Any]) -> dict[str, Any]:
    certificate = policy["certificate"]
    return {
        "thresholds": {stage["name"]: stage["threshold"] for stage in policy["stages"][:-1]},
        "skip_below": {s["name"]: s["skip_below"] for s in policy["stages"] if "skip_below" in s} or None,
        "abstain_below": policy["stages"][-1].get("abstain_below"),
        "guarantee": certificate["guarantee"],
        "delta": certificate.get("delta"),
        "bounds": {test["target"]: test["bound"] for test in certificate.get("tests", [])} or None,
        **certificate["observed"],
    }
