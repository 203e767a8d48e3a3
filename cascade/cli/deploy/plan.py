"""``cascade plan``: which stages share a process, and the number of replicas of each segment."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cascade.cli.shared.console import JsonOption, console, print_result
from cascade.cli.shared.inputs import ConfigArgument, PolicyOption

if TYPE_CHECKING:
    from cascade.config import CascadeConfig
    from cascade.planning.latency_plan import LatencyPlan
    from cascade.planning.segment_plan import SegmentPlan
    from cascade.planning.served_plan import ServedPlan
    from cascade.planning.simulation.requests import Requests
    from cascade.planning.stage_load import StageLoad

__all__ = ["plan"]


def plan(
    config_path: ConfigArgument,
    scores: Annotated[Path, typer.Option(help="Score table with times as costs.")] = Path("scores.npz"),
    policy_path: PolicyOption = None,
    hop_ms: Annotated[float, typer.Option(min=0, help="Milliseconds per call between processes.")] = 2.0,
    request_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of the gateway per request.")] = 0.1,
    batch_ms: Annotated[
        float, typer.Option(min=0, help="With --p99-ms: milliseconds per micro-batch besides its stages.")
    ] = 0.2,
    rate: Annotated[float | None, typer.Option(min=0, help="Rows per second to plan for.")] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            "--p99-ms",
            min=0.001,
            help="With --rate or --trace: time in which 99 of 100 requests are answered; the replicas are found by "
            "simulation, and compared with those of the biggest model alone.",
        ),
    ] = None,
    cv: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            help="With --p99-ms: standard deviation of the times between requests over their "
            "mean; 1 for random arrivals (Poisson), more for bursts.",
        ),
    ] = 1.0,
    request_rows: Annotated[int, typer.Option(min=1, help="With --p99-ms: rows per request.")] = 1,
    trace: Annotated[
        Path | None,
        typer.Option(help="With --p99-ms, instead of --rate: CSV file of requests, columns 'time_s' and 'rows'."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of --rate: total number of processes, for the highest throughput."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.05, max=1, help="Target utilisation of each process, without --p99-ms.")
    ] = 0.7,
    autoscale: Annotated[bool, typer.Option(help="Let Ray Serve change the number of later segments.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan the segments from measured times: which stages share a process, and the replicas of each segment."""
    from cascade.calibration import PolicySet, ScoreTable
    from cascade.calibration.costs.arrivals import RowsTogether
    from cascade.cascade import check_policy, check_table
    from cascade.config import CascadeConfig
    from cascade.planning.grouping import Transport
    from cascade.planning.segment_plan import plan_of, plan_segments
    from cascade.planning.served_plan import plan_served
    from cascade.planning.stage_load import StageLoad

    if sum(given is not None for given in (rate, replicas, trace)) > 1:
        raise typer.BadParameter("give one of --rate, --trace and --replicas")
    if (trace is not None) if p99_ms is None else (rate is None and trace is None):
        raise typer.BadParameter("--p99-ms needs --rate or --trace, and --trace needs --p99-ms")
    config = CascadeConfig.load(config_path)
    table = ScoreTable.load(scores)
    check_table(table, config)
    policy = check_policy(PolicySet.load(policy_path or config.policy).best, [stage.name for stage in config.stages])
    load = StageLoad.measure(table, policy, RowsTogether((config.serving.max_batch_rows,)))
    transport = Transport(hop_ms, config.serving.max_batch_rows, request_ms, batch_ms)
    # Ray assigns resources to a process, so a stage that requests resources begins a segment.
    begins = [bool(stage.deployment.get("ray_actor_options")) for stage in config.stages]
    if p99_ms is None:
        found = plan_segments(load, transport, begins, rate, replicas, utilisation)
        details: dict[str, Any] = {}
    else:
        requests = _requests(trace, rate, cv, request_rows, load)
        with console.status("simulating") as status:
            served = plan_served(table, policy, transport, requests, p99_ms, begins, status.update)
        counts, busy = served.cascade.replicas, max(each.utilisation for each in served.cascade.outcome.segments)
        found = plan_of(served.cascade.segments, counts, load, transport, busy)
        resources = {
            "simulated": _resources(config, served.cascade, found.segments),
            "biggest_alone": served.biggest and _resources(config, served.biggest, (found.segments[-1][-1:],)),
        }
        details = {"p99_ms": p99_ms, "rate": requests.rows_per_s, **served.to_dict(), "resources": resources}
    if as_json:
        pasted = {"serving": found.serving(), "deployments": found.deployments(autoscale)}
        print_result({**found.to_dict(), **pasted, **details}, as_json)
    elif p99_ms is None:
        _print_plan(found, autoscale)
    else:
        _print_served_plan(served, found, details, autoscale)


def _requests(trace: Path | None, rate: float | None, cv: float, request_rows: int, load: "StageLoad") -> "Requests":
    from cascade.planning.served_plan import enough_requests
    from cascade.planning.simulation.requests import Requests

    if trace is not None:
        return Requests.from_trace(trace)
    if not rate or not math.isfinite(rate):
        raise typer.BadParameter(f"--rate must be a number of rows per second above 0; got {rate}")
    return Requests.at_rate(rate, enough_requests(load, rate, request_rows), request_rows, cv)


def _resources(config: "CascadeConfig", plan: "LatencyPlan", segments: tuple[tuple[str, ...], ...]) -> dict[str, float]:
    """Processors and GPUs of all replicas."""
    options = {stage.name: stage.deployment.get("ray_actor_options") or {} for stage in config.stages}
    wanted = [options[segment[0]] for segment in segments]
    return {
        name: sum(count * each.get(key, default) for count, each in zip(plan.replicas, wanted, strict=True))
        for name, key, default in (("cpus", "num_cpus", 1), ("gpus", "num_gpus", 0))
    }


def _print_served_plan(served: "ServedPlan", plan: "SegmentPlan", details: dict[str, Any], autoscale: bool) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("segment", "reach share", "replicas", "utilisation", "rows per batch", "rows that wait"):
        table.add_column(title)
    for segment, reach, count, seen in zip(
        plan.segments, plan.reach, plan.replicas, served.cascade.outcome.segments, strict=True
    ):
        table.add_row(
            ", ".join(segment),
            f"{reach:.1%}",
            f"{count:,}",
            f"{seen.utilisation:.0%}",
            f"{seen.batch_rows:.3g}",
            f"{seen.queue_rows / count:.2g}",
        )
    Console().print(table)
    typer.echo(f"for {details['rate']:,.4g} rows/s with a p99 of at most {details['p99_ms']:g} ms, simulated:")
    typer.echo(_needs("the cascade", served.cascade, details["resources"]["simulated"], served.accuracy))
    name = f"{plan.segments[-1][-1]} alone"
    if served.biggest is None or served.fewer is None:
        typer.echo(f"  {name}: {served.biggest_problem}\n")
    else:
        needs = _needs(name, served.biggest, details["resources"]["biggest_alone"], served.biggest_accuracy)
        typer.echo(f"{needs}: {served.fewer:.2g} times as many\n")
    typer.echo(_as_yaml(plan, autoscale), nl=False)


def _needs(name: str, plan: "LatencyPlan", resources: dict[str, float], accuracy: float | None) -> str:
    """One line: what a cascade needs, and what it reaches."""
    p50, p99 = (plan.outcome.latency_percentile(percent) for percent in (50, 99))
    right = "" if accuracy is None else f", accuracy {accuracy:.2%}"
    gpus = f" and {resources['gpus']:,g} GPUs" if resources["gpus"] else ""
    return (
        f"  {name}: {sum(plan.replicas):,} replicas, {resources['cpus']:,g} CPUs{gpus}, p50 {p50:.3g} ms, "
        f"p99 {p99:.3g} ms{right}"
    )


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
