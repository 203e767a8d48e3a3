"""``cascade check``: whether configuration, models, policy, score table and fresh rows match."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.shared.inputs import (
    ConfigArgument,
    DatasetOption,
    PolicyOption,
    RowsOption,
    SplitOption,
    load_checked_rows,
)
from cascade.cli.tune.collect import collection_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cascade.calibration import Policy, PolicySet, ScoreTable
    from cascade.calibration.evaluation.fresh_check import FreshCheck
    from cascade.config import CascadeConfig
    from cascade.stage import Stage

__all__ = ["check"]

TRIED_ROWS = 16


def check(
    config_path: ConfigArgument,
    policy_path: PolicyOption = None,
    scores: Annotated[Path | None, typer.Option(help="Score table to compare with the config.")] = None,
    rows_file: RowsOption = None,
    dataset: DatasetOption = None,
    split: SplitOption = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many of the fresh rows.")] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Probability of a false alarm on fresh rows.", show_default="the policy's delta, or 0.05"),
    ] = None,
    elsewhere: Annotated[
        bool,
        typer.Option(
            "--elsewhere", help="The cascade is served on other machines, so do not check the resources of this one."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Load everything and run a few rows through all stages; with fresh rows, test whether the policy still holds."""
    from cascade.calibration.evaluation.fresh_check import check_fresh
    from cascade.config import CascadeConfig
    from cascade.errors import CheckFailed
    from cascade.rows.checks import example_rows
    from cascade.serving.deploy.resources import check_machine
    from cascade.stage_check import try_stage

    with_rows = rows_file is not None or dataset is not None
    if delta is not None and not (with_rows and 0 < delta < 1):
        raise typer.BadParameter(f"--delta must be in (0, 1), and needs --rows or --dataset; got {delta!r}")
    config = CascadeConfig.load(config_path)
    if not (elsewhere or os.environ.get("RAY_ADDRESS")):
        check_machine(config)
    with _exit_as_error():
        stages = _load_stages(config, config_path, as_json)
        rows, label = example_rows(config.rows, TRIED_ROWS), None
        if with_rows:
            rows, label = load_checked_rows(config, dataset, split, rows_file, limit)
        tried = {stage.name: try_stage(stage, rows[:TRIED_ROWS], made_up=not with_rows) for stage in stages}
        policies = _load_policies(policy_path or config.policy, config, with_rows or policy_path is not None)
        fresh = None
        if with_rows and policies is not None:
            fresh = check_fresh(_collect(stages, rows, label, config, as_json), policies.best, delta)
    result = {"config": str(config_path), "stages": list(tried), "tried_rows": tried, **_policy_facts(policies)}
    if scores is not None:
        result["score_table_rows"] = _rows_of_table(scores, config)
    print_result(result if fresh is None or not as_json else result | {"fresh": fresh.to_dict()}, as_json)
    if fresh is not None and not as_json:
        _print_fresh(fresh)
    if fresh is not None and fresh.violated:
        raise CheckFailed(f"{', '.join(finding.claim for finding in fresh.violated)}: {fresh.conclusion}")


@contextmanager
def _exit_as_error() -> Iterator[None]:
    """Makes ``os._exit`` raise ``SystemExit``, so that a model that calls it fails the check; forked processes exit."""
    process, leave = os.getpid(), os._exit

    def exit_or_raise(status: int) -> NoReturn:
        if os.getpid() == process:
            raise SystemExit(status)
        leave(status)

    os._exit = exit_or_raise
    try:
        yield
    finally:
        os._exit = leave


def _load_stages(config: "CascadeConfig", config_path: Path, quiet: bool) -> "list[Stage]":
    """Loads the stages, and prints the name of each before."""
    from cascade.cascade import load_stages

    stages: list[Stage] = []
    for stage in config.stages:
        if not quiet:
            console.print(f"{stage.name}: loading", style="dim", highlight=False, markup=False)
        stages += load_stages([stage], config_path.resolve().parent, config.classes)
    return stages


def _load_policies(path: Path, config: "CascadeConfig", required: bool) -> "PolicySet | None":
    """The policies, which match the models; ``None`` if the file does not exist and is not required."""
    from cascade.calibration import PolicySet
    from cascade.cascade import check_models

    if not (required or path.exists()):
        return None
    policies = PolicySet.load(path)
    for gear in policies.gears:
        check_models(gear, config.stages)
    return policies


def _policy_facts(policies: "PolicySet | None") -> dict[str, Any]:
    if policies is None:
        return {"policy": None}
    policy = policies.best
    guarantee = policy.certificate.get("guarantee", "none")
    return {"policy": policies.version, "guarantee": guarantee, "cost_curves": _curves_of(policy)}


def _rows_of_table(scores: Path, config: "CascadeConfig") -> int:
    """Number of rows of a score table, which matches the configuration."""
    from cascade.calibration import ScoreTable
    from cascade.cascade import check_table

    table = ScoreTable.load(scores)
    check_table(table, config)
    return len(table)


def _curves_of(policy: "Policy") -> str | None:
    """Whether the policy's cost curves were measured on this kind of machine; ``None`` without curves."""
    from cascade.machine.description import machine_line

    measured_on, here = policy.certificate.get("curves_measured_on"), machine_line()
    if not policy.curves or not isinstance(measured_on, str):
        return None
    if measured_on.startswith(here):
        return "measured on this kind of machine"
    return f"measured on {measured_on}; this machine is {here}, so predicted times may be wrong here: collect again"


def _collect(
    stages: "Sequence[Stage]", rows: "np.ndarray", label: "np.ndarray | None", config: "CascadeConfig", quiet: bool
) -> "ScoreTable":
    from cascade.collection.collect import collect

    with collection_progress(stages, len(rows), timed=False, quiet=quiet) as callbacks:
        return collect(stages, rows, label, classes=config.classes, curve_seconds=0, **callbacks)


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
        f"{seen.rows:,} fresh rows;{accuracy} probability of a false alarm: {fresh.delta:.4g}",
        highlight=False,
    )
    tests = [f"test: {test}" for test in dict.fromkeys(finding.test for finding in fresh.findings)]
    for line in (*tests, *(f"not tested: {line}" for line in fresh.untested), fresh.conclusion):
        output.print(f"- {escape(line)}", highlight=False)
