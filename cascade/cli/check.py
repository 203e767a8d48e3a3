"""``cascade check``: whether config, models, policy, score table and the traffic of today fit each other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cascade.cli.console import JsonOption, console, print_result
from cascade.cli.inputs import DatasetOption, RowsOption, SplitOption, load_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cascade.calibration import Policy, ScoreTable
    from cascade.calibration.evaluation.fresh_check import FreshCheck
    from cascade.config import CascadeConfig
    from cascade.stage import Stage

__all__ = ["check"]

TRIED_ROWS = 16


def check(
    config_path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (YAML).")],
    policy_path: Annotated[Path | None, typer.Option("--policy", help="Policy [default: the config's].")] = None,
    scores: Annotated[Path | None, typer.Option(help="Score table to hold against the config.")] = None,
    rows_file: RowsOption = None,
    dataset: DatasetOption = None,
    split: SplitOption = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Use the first of the fresh rows only.")] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Risk of an alarm while all still holds, with fresh rows [default: the policy's, or 0.05]."),
    ] = None,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="It is served on other machines: this one may lack what stages ask for.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Load everything and push a few rows through all stages; with fresh rows, test whether the policy still fits."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.calibration.evaluation.fresh_check import check_fresh
    from cascade.cascade import check_models, check_table, load_stages
    from cascade.config import CascadeConfig
    from cascade.errors import CheckFailed
    from cascade.rows.checks import check_rows, example_rows
    from cascade.serving.deploy.resources import check_machine
    from cascade.stage_check import try_stage

    with_rows = rows_file is not None or dataset is not None
    if delta is not None and not (with_rows and 0 < delta < 1):
        raise typer.BadParameter(f"--delta must be in (0, 1), and needs --rows or --dataset; got {delta!r}")
    config = CascadeConfig.load(config_path)
    if not (elsewhere or os.environ.get("RAY_ADDRESS")):
        check_machine(config)
    names = [stage.name for stage in config.stages]
    stages = []
    for stage in config.stages:
        if not as_json:
            console.print(f"{stage.name}: loading", style="dim", highlight=False, markup=False)
        stages += load_stages([stage], config_path.resolve().parent, config.classes)
    rows, label = example_rows(config.rows, TRIED_ROWS), None
    if with_rows:
        rows, label = load_rows(dataset, split, rows_file, config.classes)
        rows = check_rows(rows[:limit], config.rows)
    tried = {stage.name: try_stage(stage, rows[:TRIED_ROWS], made_up=not with_rows) for stage in stages}
    result: dict[str, object] = {"config": str(config_path), "stages": names, "tried_rows": tried, "policy": None}
    path = policy_path or config.policy
    policy = None
    if with_rows or policy_path is not None or path.exists():
        policies = PolicySet.load(path)
        for each in policies.gears:
            check_models(each, config.stages)
        policy = policies.best
        result["policy"] = policies.version
        result["guarantee"] = policy.certificate.get("guarantee", "none")
        result["cost_curves"] = _curves_of(policy)
    if scores is not None:
        table = ScoreTable.load(scores)
        check_table(table, config)
        result["score_table_rows"] = len(table)
    fresh = None
    if with_rows and policy is not None:
        label = None if label is None else label[:limit]
        fresh = check_fresh(_collect(stages, rows, label, config, as_json), policy, delta)
    if fresh is None:
        print_result(result, as_json)
    elif as_json:
        print_result(result | {"fresh": fresh.to_dict()}, as_json)
    else:
        print_result(result, as_json)
        _print_fresh(fresh)
    if fresh is not None and fresh.violated:
        raise CheckFailed(f"{', '.join(finding.claim for finding in fresh.violated)}: {fresh.conclusion}")


def _curves_of(policy: "Policy") -> str | None:
    """Where the cost curves of a policy were measured; ``None`` without curves."""
    from cascade.machine.description import machine_line

    measured_on, here = policy.certificate.get("curves_measured_on"), machine_line()
    if not policy.curves or not isinstance(measured_on, str):
        return None
    if measured_on.startswith(here):
        return "measured on this kind of machine"
    return f"measured on {measured_on}; this one is {here}, so predicted times may not hold here: collect again"


def _collect(
    stages: "Sequence[Stage]", rows: "np.ndarray", label: "np.ndarray | None", config: "CascadeConfig", quiet: bool
) -> "ScoreTable":
    from cascade.collection.collect import collect

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet) as bar:
        tasks = {stage.name: bar.add_task(stage.name, total=len(rows)) for stage in stages}
        return collect(
            stages,
            rows,
            label,
            classes=config.classes,
            curve_seconds=0,
            on_rows=lambda name, done: bar.update(tasks[name], completed=done),
        )


def _print_fresh(fresh: "FreshCheck") -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("claim", "claimed", "observed", "p-value", "verdict"):
        table.add_column(title, overflow="fold")
    for finding in fresh.findings:
        numbers = (f"{finding.claimed:.4g}", f"{finding.observed:.4g}", f"{finding.p_value:.3g}")
        table.add_row(escape(finding.claim), *numbers, finding.verdict)
    output, seen = Console(), fresh.evaluation
    output.print(table)
    accuracy = ""
    if seen.accuracy is not None and seen.accuracy_interval is not None:
        low, high = seen.accuracy_interval
        accuracy = f" accuracy {seen.accuracy:.4f} (in {low:.4f} to {high:.4f});"
    output.print(
        f"{seen.rows:,} fresh rows;{accuracy} risk of an alarm while all still holds: {fresh.delta:.4g}",
        highlight=False,
    )
    tests = [f"test: {test}" for test in dict.fromkeys(finding.test for finding in fresh.findings)]
    for line in (*tests, *(f"not tested: {line}" for line in fresh.untested), fresh.conclusion):
        output.print(f"- {escape(line)}", highlight=False)
