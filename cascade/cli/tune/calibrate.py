"""``cascade calibrate``: finds a policy for a target on a score table."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cascade.cli.shared.console import JsonOption, print_result
from cascade.cli.shared.inputs import (
    BatchRowsOption,
    MaxAccuracyDropOption,
    MaxCostOption,
    MinRecallOption,
    PositiveOption,
    RateOption,
    TargetAccuracyOption,
    TargetAgreementOption,
    arrivals_of,
)

if TYPE_CHECKING:
    from cascade.calibration import Policy, PolicySet, ScoreTable

__all__ = ["calibrate"]

MAX_DUPLICATES = 0.1
"""Share of the testing rows that may be duplicates without a warning."""

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="Configuration, with each stage's score and calibrator.")
]
MaxAbstainOption = Annotated[
    float | None,
    typer.Option(help="Maximum share of abstained rows; the accuracy is then that of the answered rows."),
]
MinPrecisionOption = Annotated[
    float | None,
    typer.Option(help="Minimum share of the rows answered as --positive that have this label; beside --min-recall."),
]
DeltaOption = Annotated[float, typer.Option(help="Probability that a certified target may be violated on future data.")]
OutOption = Annotated[Path | None, typer.Option(help="Policy to write.", show_default="the config's, or policy.json")]
GuaranteeOption = Annotated[
    str, typer.Option(help="'certified', or 'none' for the best thresholds on the table itself.")
]
RoutersOption = Annotated[
    str | None,
    typer.Option(
        help="Score or head, and calibrator, of each stage, such as margin:platt,deferral; a single one is for all "
        "stages.",
        show_default="the config's, or the table's confidences unchanged",
    ),
]
GearsOption = Annotated[
    str | None,
    typer.Option(
        help="Values of the target for further, cheaper gears, the most accurate first, such as 0.93,0.92; the "
        "result is a policy set. Without a target they are accuracies."
    ),
]
EarlyDeferralOption = Annotated[
    bool,
    typer.Option(
        "--early-deferral",
        "--skip",
        help="Search early-deferral thresholds: rows that are hopeless for the middle stages go to the last stage at "
        "once.",
    ),
]
LookOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of this look at the same rows, from 1: look k is tested at level delta / 2^k.",
        show_default="the only look, at level delta",
    ),
]


def calibrate(
    config_path: ConfigArgument = None,
    scores: Annotated[Path, typer.Option(help="Score table.")] = Path("scores.npz"),
    target_accuracy: TargetAccuracyOption = None,
    max_accuracy_drop: MaxAccuracyDropOption = None,
    target_agreement: TargetAgreementOption = None,
    max_cost: MaxCostOption = None,
    max_abstain: MaxAbstainOption = None,
    min_recall: MinRecallOption = None,
    min_precision: MinPrecisionOption = None,
    positive: PositiveOption = None,
    delta: DeltaOption = 0.05,
    guarantee: GuaranteeOption = "certified",
    seed: Annotated[int, typer.Option(help="Seed of the split into rows for searching and rows for testing.")] = 0,
    routers: RoutersOption = None,
    gears: GearsOption = None,
    early_deferral: EarlyDeferralOption = False,
    batch_rows: BatchRowsOption = None,
    rate: RateOption = None,
    look: LookOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the cheapest policy that reaches a target, or the most accurate one within a budget."""
    from cascade.calibration import Guarantee, Policy, PolicySet, ScoreTable, calibrate_gears
    from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS
    from cascade.cascade import check_table
    from cascade.config import CascadeConfig

    table = ScoreTable.load(scores)
    config = None if config_path is None else CascadeConfig.load(config_path)
    choices = None if config is None else check_table(table, config)
    if routers is not None:
        choices = _parse_routers(routers, table.stages)
    given = {
        "target_accuracy": target_accuracy,
        "max_accuracy_drop": max_accuracy_drop,
        "target_agreement": target_agreement,
        "max_cost": max_cost,
        "max_abstain": max_abstain,
        "min_recall": min_recall,
        "min_precision": min_precision,
    }
    if min_recall is not None and positive is None and config is not None and config.detection is not None:
        positive = config.detection.positive
    if positive is not None and min_recall is None:
        raise typer.BadParameter("--positive goes with --min-recall")
    targets = _gear_targets({name: value for name, value in given.items() if value is not None}, gears)
    try:
        found = calibrate_gears(
            table,
            targets,
            delta=delta,
            guarantee=cast(Guarantee, guarantee),
            seed=seed,
            routers=choices,
            early_deferral=early_deferral,
            arrivals=arrivals_of(batch_rows, rate, table.has_curves) or DEFAULT_ARRIVALS,
            look=look,
            positive=positive,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    written: Policy | PolicySet = found.best if gears is None else found
    out = out or (config.policy if config else Path("policy.json"))
    written.save(out)
    print_result({"policy": str(out), "version": written.version} | _facts(table, found, gears is not None), as_json)
    _warn_of_duplicates(found.best.certificate)


def _facts(table: "ScoreTable", found: "PolicySet", with_gears: bool) -> dict[str, Any]:
    """The most accurate policy, perhaps the gears, and the verdict."""
    facts = _summary(found.best.to_dict())
    if with_gears:
        facts["gears"] = [
            {"version": gear.version, **gear.guarantees, **_summary(gear.to_dict())} for gear in found.gears
        ]
    return facts | _verdict(table, found.best)


def _warn_of_duplicates(certificate: Mapping[str, Any]) -> None:
    """Warns if many testing rows are duplicates, since a certificate assumes independent rows."""
    copies = certificate.get("duplicate_rows", 0)
    # Of all testing rows: those of a recall's test are the positive ones alone.
    tested = certificate.get("testing_rows", max((test["rows"] for test in certificate.get("tests", [])), default=0))
    if copies > MAX_DUPLICATES * tested:
        typer.echo(
            f"warning: {copies} of {tested} testing rows look like duplicates of searching rows. The certificate "
            "assumes independent rows, so remove duplicates; ignore this warning if different rows have equal "
            "confidences by chance",
            err=True,
        )


def _verdict(table: "ScoreTable", policy: "Policy") -> dict[str, Any]:
    """Whether the policy costs less than its last stage alone."""
    from cascade.calibration.evaluation.break_even import pays_from

    together = None if policy.arrivals is None else str(policy.arrivals)
    observed = policy.certificate["observed"]
    last, cost, unit = observed["last_stage_cost"], observed["mean_cost"], policy.cost_unit
    verdict = None
    if policy.runs.sum() == 1:
        verdict = f"no cascade pays: {policy.stages[-1]!r} alone answers every row, at {last:.4g} {unit} per row"
    elif cost > last:
        verdict = f"the cascade costs {cost:.4g} {unit} per row, more than {policy.stages[-1]!r} alone: {last:.4g}"
    if verdict and together:
        rows = pays_from(table, policy)
        size = "at no number of rows together" if rows is None else f"from {rows:,} rows together"
        verdict = f"{verdict} ({together}); on these rows, without a certificate, a cascade pays {size}"
    off = [name for name, runs in zip(policy.stages, policy.runs, strict=True) if not runs]
    return {"cost_is_for": together or "constant costs per row", "stages_not_run": off or None, "verdict": verdict}


def _gear_targets(given: dict[str, float], gears: str | None) -> list[dict[str, float]]:
    """The targets of each gear, beginning with the given ones, if any."""
    if gears is None:
        return [given]
    try:
        values = [float(part) for part in gears.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"--gears must be numbers separated by commas, such as 0.93,0.92; got {gears!r}"
        ) from error
    # Of two targets, the first is the quality of the answers, which gears differ in.
    name = next(iter(given), "target_accuracy")
    return [*([given] if given else []), *(given | {name: value} for value in values)]


def _parse_routers(text: str, stages: int) -> list[tuple[str, str]]:
    """(score or head, calibrator) of each stage; the calibrator is "identity" by default."""
    pairs = [part.strip().partition(":") for part in text.split(",")]
    choices = [(name, calibrator or "identity") for name, _, calibrator in pairs]
    return choices * stages if len(choices) == 1 else choices


def _constructed(certificate: dict[str, Any]) -> list[str] | None:
    """The targets that hold by construction, on any rows."""
    tests = certificate.get("tests", [])
    return [test["target"] for test in tests if test["test"] == "by construction"] or None


def _summary(policy: dict[str, Any]) -> dict[str, Any]:
    certificate = policy["certificate"]
    return {
        "thresholds": {stage["name"]: stage["threshold"] for stage in policy["stages"][:-1]},
        "defer_below": {s["name"]: s["defer_below"] for s in policy["stages"] if "defer_below" in s} or None,
        "abstain_below": policy["stages"][-1].get("abstain_below"),
        "guarantee": certificate["guarantee"],
        "delta": certificate.get("delta"),
        **({"look": certificate["look"], "level": certificate["level"]} if "look" in certificate else {}),
        "bounds": {test["target"]: test["bound"] for test in certificate.get("tests", [])} or None,
        "by_construction": _constructed(certificate),
        **({"advice": certificate["advice"]} if "advice" in certificate else {}),
        "duplicate_rows": certificate.get("duplicate_rows"),
        **{name: certificate[name] for name in ("positive_name", "positives", "testing_rows") if name in certificate},
        "tested_rows": {test["target"]: test["rows"] for test in certificate.get("tests", [])} or None,
        **certificate["observed"],
    }
