"""``cascade plan``: which stages share a process, and the number of replicas of each segment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cascade.cli.console import JsonOption, print_result
from cascade.cli.inputs import ConfigArgument, PolicyOption

if TYPE_CHECKING:
    from cascade.planning.segment_plan import SegmentPlan

__all__ = ["plan"]


def plan(
    config_path: ConfigArgument,
    scores: Annotated[Path, typer.Option(help="Score table with times as costs.")] = Path("scores.npz"),
    policy_path: PolicyOption = None,
    hop_ms: Annotated[float, typer.Option(min=0, help="Milliseconds per call between processes.")] = 2.0,
    request_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of the gateway per request.")] = 0.1,
    rate: Annotated[float | None, typer.Option(min=0, help="Rows per second to plan for.")] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of --rate: total number of processes, for the highest throughput."),
    ] = None,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="Target utilisation of each process.")] = 0.7,
    autoscale: Annotated[bool, typer.Option(help="Let Ray Serve change the number of later segments.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan the segments from measured times: which stages share a process, and the replicas of each segment."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.calibration.costs.arrivals import RowsTogether
    from cascade.cascade import check_policy, check_table
    from cascade.config import CascadeConfig
    from cascade.planning.grouping import Transport
    from cascade.planning.segment_plan import plan_segments
    from cascade.planning.stage_load import StageLoad

    if rate is not None and replicas is not None:
        raise typer.BadParameter("give either --rate or --replicas")
    config = CascadeConfig.load(config_path)
    table = ScoreTable.load(scores)
    check_table(table, config)
    policy = check_policy(PolicySet.load(policy_path or config.policy).best, [stage.name for stage in config.stages])
    found = plan_segments(
        StageLoad.measure(table, policy, RowsTogether((config.serving.max_batch_rows,))),
        Transport(hop_ms, config.serving.max_batch_rows, request_ms),
        # Ray assigns resources to a process, so a stage that requests resources begins a segment.
        [bool(stage.deployment.get("ray_actor_options")) for stage in config.stages],
        rate,
        replicas,
        utilisation,
    )
    if as_json:
        pasted = {"serving": found.serving(), "deployments": found.deployments(autoscale)}
        print_result({**found.to_dict(), **pasted}, as_json)
    else:
        _print_plan(found, autoscale)


def _print_plan(plan: "SegmentPlan", autoscale: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("segment", "reach share", "ms per row of the cascade", "replicas"):
        table.add_column(title)
    for segment, reach, load, count in zip(plan.segments, plan.reach, plan.load_ms, plan.replicas, strict=True):
        table.add_row(", ".join(segment), f"{reach:.1%}", f"{load:.3g}", str(count))
    Console().print(table)
    typer.echo(
        f"about {plan.rows_per_s:.4g} rows/s at {plan.utilisation:.0%} utilisation; mean latency "
        f"{plan.mean_answer_ms:.3g} ms in full batches, without queueing\n"
    )
    typer.echo(_as_yaml(plan, autoscale), nl=False)


def _as_yaml(plan: "SegmentPlan", autoscale: bool) -> str:
    import yaml

    parts = [yaml.safe_dump({"serving": plan.serving()}, sort_keys=False, default_flow_style=None)]
    for stage, keys in plan.deployments(autoscale).items():
        text = yaml.safe_dump({"deployment": keys}, sort_keys=False, default_flow_style=None)
        parts.append(f"# in the stage {stage!r}:\n{text}")
    return "".join(parts)
