"""``cascade bench``: throughput, latency, accuracy and cost together."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cascade.cli.console import JsonOption, console, print_result
from cascade.cli.inputs import ConfigArgument, DatasetOption, RowsOption, load_checked_rows
from cascade.cli.served import served_url

if TYPE_CHECKING:
    from cascade.benchmarks.benchmark import Benchmark
    from cascade.benchmarks.handle_target import HandleTarget
    from cascade.benchmarks.http_target import HttpTarget
    from cascade.benchmarks.load import Load
    from cascade.cascade import Cascade
    from cascade.config import CascadeConfig

__all__ = ["bench"]

TARGETS = ("in-process", "handle", "http")
SERVED_CONNECTIONS = 8
OPEN_LOOP_CONNECTIONS = 256  # with few connections, requests would wait for a free one

ConnectionsOption = Annotated[
    int | None, typer.Option(min=1, help="Concurrent requests.", show_default="8; with --rate 256; in-process 1")
]
RateOption = Annotated[
    float | None,
    typer.Option(min=0.01, help="Open loop: requests per second, with Poisson arrivals.", show_default="closed loop"),
]


def bench(
    config_path: ConfigArgument,
    target: Annotated[str, typer.Option(help="What to benchmark: in-process, handle (in the running Ray) or http.")],
    url: Annotated[str | None, typer.Option(help="Address for the target http.", show_default="the config's")] = None,
    policy_path: Annotated[
        Path | None, typer.Option("--policy", help="Policy for the target in-process.", show_default="the config's")
    ] = None,
    dataset: DatasetOption = None,
    rows_file: RowsOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many rows.")] = None,
    rows_per_request: Annotated[int, typer.Option(min=1, help="Rows per request.")] = 64,
    connections: ConnectionsOption = None,
    rate: RateOption = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds per repeat.")] = 10.0,
    warmup_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds of load before each repeat that are not measured.")
    ] = 2.0,
    repeats: Annotated[
        int, typer.Option(min=1, help="Repeats; the result has the median, minimum and maximum over them.")
    ] = 3,
    biggest_alone: Annotated[
        bool, typer.Option("--biggest-alone", help="In-process: measure the last stage alone too, in alternation.")
    ] = False,
    max_p99_ms: Annotated[float | None, typer.Option(min=0, help="Objective: highest p99 latency.")] = None,
    min_rows_per_s: Annotated[float | None, typer.Option(min=0, help="Objective: lowest throughput.")] = None,
    out: Annotated[Path | None, typer.Option(help="Result file to write (JSON).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Figure to write: .png, .svg or .pdf.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure throughput, latency, accuracy and cost of a cascade under load; exit code 6 if an objective is missed."""
    # Without the address, since a result file contains no host names.
    options = {name: _plain(value) for name, value in locals().items() if name not in ("as_json", "config_path", "url")}
    options |= {"policy": options.pop("policy_path"), "rows": options.pop("rows_file")}
    _check_options(target, url, policy_path, biggest_alone, rate, out, plot)

    from cascade.benchmarks.benchmark import Benchmark
    from cascade.benchmarks.objectives import Objectives
    from cascade.benchmarks.plot import plot_result
    from cascade.benchmarks.result import Result
    from cascade.benchmarks.workload import Workload
    from cascade.cascade import Cascade
    from cascade.config import CascadeConfig

    config = CascadeConfig.load(config_path)
    cascade = Cascade.load(config_path, policy_path) if target == "in-process" else None
    rows, label = load_checked_rows(config, dataset, "test", rows_file, limit)
    options["connections"] = connections or (1 if cascade else OPEN_LOOP_CONNECTIONS if rate else SERVED_CONNECTIONS)
    workload = Workload.from_rows(rows, label, rows_per_request)
    benchmark = Benchmark(_new_load(options), workload, tuple(stage.name for stage in config.stages), repeats)
    numbers = _run(benchmark, cascade or _new_target(config, url, options), biggest_alone, quiet=as_json)
    measured = _measured(config, options, numbers, cascade) | {"data_rows": len(rows)}
    result = Result.here(measured, options, numbers)
    if out is not None:
        result.save(out)
    if plot is not None:
        plot_result(result, plot)
    print_result(result.to_dict() if as_json else measured | _overview(result.summary), as_json)
    Objectives(max_p99_ms, min_rows_per_s).check(result.summary)


def _new_load(options: Mapping[str, Any]) -> "Load":
    """An open loop with --rate, else a closed loop."""
    from cascade.benchmarks.load import ClosedLoop, OpenLoop

    seconds, warmup_seconds = options["seconds"], options["warmup_seconds"]
    if options["rate"] is None:
        return ClosedLoop(options["connections"], seconds, warmup_seconds)
    return OpenLoop(options["rate"], seconds, warmup_seconds)


def _new_target(config: "CascadeConfig", url: str | None, options: Mapping[str, Any]) -> "HandleTarget | HttpTarget":
    from cascade.benchmarks.handle_target import HandleTarget
    from cascade.benchmarks.http_target import HttpTarget

    stages = tuple(stage.name for stage in config.stages)
    if options["target"] == "handle":
        return HandleTarget(config.name, stages)
    return HttpTarget(url or served_url(config), stages, options["connections"])


def _measured(
    config: "CascadeConfig", options: Mapping[str, Any], numbers: list[dict[str, Any]], cascade: "Cascade | None"
) -> dict[str, Any]:
    """What was measured: the cascade, the load and the data."""
    versions = {version for repeat in numbers for version in repeat["policy_versions"]}
    measured = {
        "config": config.name,
        "policy_version": ", ".join(sorted(versions)),
        "target": options["target"],
        "rows_per_request": options["rows_per_request"],
        "connections": options["connections"],
        "rate_per_s": options["rate"],
        "data": options["dataset"] or options["rows"] or "",
        "cost_unit": cascade.policy.cost_unit if cascade else None,
    }
    if cascade is not None:
        measured["prediction"] = _prediction(cascade, options["rows_per_request"], numbers)
    return measured


def _prediction(cascade: "Cascade", rows_together: int, numbers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Predicted and realised time of the engine; ``None`` if the policy has no cost curves."""
    import numpy as np

    from cascade.benchmarks.time_prediction import TimePrediction
    from cascade.calibration.costs.arrivals import RowsTogether

    arrivals = RowsTogether((rows_together,))
    predicted = cascade.policy.predicted_ms(arrivals)
    if predicted is None:
        return None
    realised = float(np.median([repeat["engine"]["ms_per_row"] for repeat in numbers]))
    return TimePrediction(predicted, realised, str(arrivals)).to_dict()


def _check_options(
    target: str,
    url: str | None,
    policy: Path | None,
    biggest_alone: bool,
    rate: float | None,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Checks the options before the measurement.

    Raises:
        typer.BadParameter: an option is invalid, or does not apply to the target.
    """
    from cascade.benchmarks.plot import PLOT_SUFFIXES

    if target not in TARGETS:
        raise typer.BadParameter(f"--target must be one of {', '.join(TARGETS)}; got {target!r}")
    if target != "in-process" and (policy is not None or biggest_alone):
        name = "--policy" if policy is not None else "--biggest-alone"
        raise typer.BadParameter(f"{name} requires the target in-process; a served cascade has its own policy")
    if biggest_alone and rate is not None:
        raise typer.BadParameter("--biggest-alone compares throughputs, and with --rate both have the same")
    if target != "http" and url is not None:
        raise typer.BadParameter(f"--url requires the target http; got the target {target}")
    if url is not None and not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--url must look like http://127.0.0.1:8000; got {url!r}")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"{option}: the folder {path.parent} does not exist")
    if plot is not None and plot.suffix not in PLOT_SUFFIXES:
        raise typer.BadParameter(f"--plot must end in {', '.join(PLOT_SUFFIXES)}; got {plot.name!r}")


def _run(
    benchmark: "Benchmark", target: "Cascade | HandleTarget | HttpTarget", biggest_alone: bool, quiet: bool
) -> list[dict[str, Any]]:
    from cascade.cascade import Cascade

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet) as bar:
        task = bar.add_task("repeats", total=benchmark.repeats)

        def on_repeat(done: int) -> None:
            bar.update(task, completed=done)

        if isinstance(target, Cascade):
            return asyncio.run(benchmark.run_in_process(target, biggest_alone, on_repeat))
        return asyncio.run(benchmark.run(target, on_repeat))


def _plain(value: Any) -> Any:
    """Replaces a path by its name, since a result file contains no folders of the machine."""
    return value.name if isinstance(value, Path) else value


def _overview(summary: Mapping[str, Any]) -> dict[str, str]:
    """One line per number: median, minimum and maximum."""
    lines = {}
    for key, value in summary.items():
        if not isinstance(value, Mapping):
            continue
        if set(value) == {"median", "min", "max"}:
            lines[key] = f"{value['median']:.4g} ({value['min']:.4g} to {value['max']:.4g})"
        else:
            lines |= {f"{key} {name}": text for name, text in _overview(value).items()}
    return lines
