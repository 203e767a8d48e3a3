"""``cascade search``: chooses models and their order for a cascade."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cascade.cli.shared.console import JsonOption, console
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
    from cascade.calibration import Policy, ScoreTable
    from cascade.calibration.choice.cascade_choice import CascadeChoice, ChosenCascade
    from cascade.calibration.choice.policy_order import PolicyOrder

__all__ = ["search"]

OrderedPolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="Instead of a target: find the best order of this policy's stages.")
]
OutScoresOption = Annotated[Path | None, typer.Option(help="Score table of the best choice's stages to write (.npz).")]


def search(
    scores: Annotated[Path, typer.Option(help="Score table; its stages are the candidates.")] = Path("scores.npz"),
    target_accuracy: TargetAccuracyOption = None,
    max_accuracy_drop: MaxAccuracyDropOption = None,
    target_agreement: TargetAgreementOption = None,
    max_cost: MaxCostOption = None,
    min_recall: MinRecallOption = None,
    positive: PositiveOption = None,
    policy_path: OrderedPolicyOption = None,
    hop_cost: Annotated[
        float, typer.Option(min=0, help="Additional cost of each stage after the first that a row reaches.")
    ] = 0,
    deadline: Annotated[float | None, typer.Option(help="Maximum cost of a row that runs through all stages.")] = None,
    max_stages: Annotated[int, typer.Option(min=1, max=12, help="Maximum number of models in a cascade.")] = 4,
    batch_rows: BatchRowsOption = None,
    rate: RateOption = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the split into rows for choosing and rows for judging.")
    ] = 0,
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Level of the confidence intervals.")] = 0.95,
    out: Annotated[Path | None, typer.Option(help="Policy of the best choice to write (JSON).")] = None,
    out_scores: OutScoresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the models and the order that reach a target at the lowest cost, with figures from held-out rows.

    Exit code 4 if the best cascade costs more than its last stage alone.
    """
    from cascade.calibration import Policy, ScoreTable
    from cascade.calibration.choice.policy_order import order_policy
    from cascade.calibration.costs.arrivals import DEFAULT_ARRIVALS

    targets = {
        "target_accuracy": target_accuracy,
        "max_accuracy_drop": max_accuracy_drop,
        "target_agreement": target_agreement,
        "max_cost": max_cost,
        "min_recall": min_recall,
    }
    if positive is not None and min_recall is None:
        raise typer.BadParameter("--positive goes with --min-recall")
    if policy_path is not None and any(value is not None for value in targets.values()):
        raise typer.BadParameter("give either --policy or a target")
    table = ScoreTable.load(scores)
    arrivals = arrivals_of(batch_rows, rate, table.has_curves)
    options: dict[str, Any] = {"hop_cost": hop_cost, "deadline": deadline, "seed": seed, "level": level}
    try:
        if policy_path is not None:
            ordered = order_policy(table, Policy.load(policy_path), arrivals=arrivals, **options)
            _write(table, ordered.policy, out, out_scores)
            _print_order(ordered, table.cost_unit, as_json)
            return
        arrivals = arrivals or DEFAULT_ARRIVALS
        options |= {"positive": positive, "max_stages": max_stages, "arrivals": arrivals}
        choice = _choose(table, targets | options, as_json)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _print_choice(choice, table, as_json)
    _check_pays(choice)
    _write(table, choice.best.policy(table, arrivals), out, out_scores)


def _choose(table: "ScoreTable", options: Mapping[str, Any], quiet: bool) -> "CascadeChoice":
    """Chooses a cascade, with a progress bar."""
    from cascade.calibration import choose_cascade

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet) as bar:
        steps = {name: bar.add_task(name, total=None) for name in ("candidates", "thresholds")}

        def on_step(name: str, done: int, total: int) -> None:
            bar.update(steps[name], completed=done, total=total)

        return choose_cascade(table, **options, on_step=on_step)


def _check_pays(choice: "CascadeChoice") -> None:
    """Raises an error if the best cascade costs more than its last stage alone."""
    from cascade.errors import InfeasibleTarget

    best = choice.best
    if len(best.stages) > 1 and best.mean_cost > best.last_stage_cost:
        raise InfeasibleTarget(
            f"the best cascade costs {best.mean_cost:.4g} {choice.cost_unit} per row, its last stage alone "
            f"{best.last_stage_cost:.4g}; no policy is written"
        )


def _write(table: "ScoreTable", policy: "Policy", out: Path | None, out_scores: Path | None) -> None:
    if out is not None:
        policy.save(out)
    if out_scores is not None:
        table.select(policy.stages).save(out_scores)


def _print_choice(choice: "CascadeChoice", table: "ScoreTable", as_json: bool) -> None:
    from cascade.calibration.choice.on_levels import on_levels
    from cascade.calibration.choice.verdicts import verdicts

    sentences = verdicts(choice) + on_levels(choice, table)
    if as_json:
        typer.echo(json.dumps(choice.to_dict() | {"verdicts": sentences}, sort_keys=True))
        return
    cascades = {str(place + 1): cascade for place, cascade in enumerate(choice.choices)}
    others = {"one model": choice.best_single, "full ladder": choice.full_ladder}
    cascades |= {
        name: other.cascade
        for name, other in others.items()
        if other is not None and all(other.cascade.stages != cascade.stages for cascade in choice.choices)
    }
    output = Console()
    output.print(_table(cascades, choice.gain, choice.cost_unit, with_target=True))
    output.print(
        f"{choice.candidates:,} cascades compared ({choice.method}); chosen on {choice.choosing_rows:,} rows, "
        f"figures from {choice.judging_rows:,} other rows, intervals at level {choice.level:.4g}; "
        f"{'constant costs per row' if choice.arrivals is None else f'costs for {choice.arrivals}'}.",
        highlight=False,
    )
    for sentence in sentences:
        output.print(f"- {escape(sentence)}", highlight=False)


def _print_order(ordered: "PolicyOrder", cost_unit: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(ordered.to_dict(), sort_keys=True))
        return
    output, comparison = Console(), ordered.given.comparison
    output.print(
        _table({"best": ordered.best, "given": ordered.given.cascade}, ordered.gain, cost_unit, with_target=False)
    )
    low, high = comparison.cost_saving_interval
    output.print(
        f"- the best order saves {100 * comparison.cost_saving:.1f} % of the given one's cost "
        f"{escape(f'[{100 * low:.1f}, {100 * high:.1f}]')} on {ordered.judging_rows:,} held-out rows",
        highlight=False,
    )


def _table(cascades: dict[str, "ChosenCascade"], gain: str, cost_unit: str, with_target: bool) -> Table:
    """One line per cascade, with figures from the held-out rows."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    titles = ("", "cascade", gain, f"mean cost ({cost_unit})", "worst cost", "answered by stage (%)")
    for title in (*titles, "target") if with_target else titles:
        table.add_column(escape(title), overflow="fold")
    for name, cascade in cascades.items():
        cells = (
            name,
            escape(" -> ".join(cascade.stages)),
            f"{cascade.gain:.4f} {_half(cascade.gain_interval, '.4f')}",
            f"{cascade.mean_cost:.4g} {_half(cascade.mean_cost_interval, '.2g')}",
            f"{cascade.worst_cost:.4g}",
            " ".join(f"{100 * share:.0f}" for share in cascade.stage_share),
        )
        verdict = "reached" if cascade.reaches_target else "missed"
        table.add_row(*cells, verdict) if with_target else table.add_row(*cells)
    return table


def _half(interval: tuple[float, float], form: str) -> str:
    half = (interval[1] - interval[0]) / 2
    return f"±{round(half, 9):{form}}"
