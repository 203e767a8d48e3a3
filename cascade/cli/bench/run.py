"""``cascade bench run``: one load on one target."""

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cascade.cli.bench.measurement import finish, interruptible, measure, show_result
from cascade.cli.bench.options import BenchOptions, with_bench_options
from cascade.cli.bench.preparation import prepare

if TYPE_CHECKING:
    from cascade.benchmarks.load import Load

__all__ = ["ArrivalsOption", "BurstinessOption", "ScenarioOption", "new_load", "run"]

ScenarioOption = Annotated[
    str | None,
    typer.Option(
        help="offline (64 rows a request), single_stream (1 row, 1 connection), multi_stream (8 rows, 1 connection), "
        "server (1 row, open loop).",
        show_default="offline; with a rate server",
    ),
]
ArrivalsOption = Annotated[str, typer.Option(help="Of an open loop: constant, poisson or gamma.")]
BurstinessOption = Annotated[
    float, typer.Option(min=0.01, help="Gamma arrivals: coefficient of variation of the gaps; 1 is Poisson.")
]


@with_bench_options
def run(
    options: BenchOptions,
    scenario: ScenarioOption = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Open loop: requests per second.", show_default="closed loop")
    ] = None,
    arrivals: ArrivalsOption = "poisson",
    burstiness: BurstinessOption = 2.0,
    biggest_alone: Annotated[bool, typer.Option("--biggest-alone", hidden=True)] = False,
) -> None:
    """Measure throughput, latency, accuracy and cost; exit code 6 if an objective is missed or a result invalid."""
    from cascade.benchmarks.analysis.exports import export

    if biggest_alone:
        raise typer.BadParameter("--biggest-alone is always on for the target in-process: 'times faster'; leave it out")
    name = checked_scenario(options, scenario, rate)
    prepared = prepare(options)
    load = new_load(options, name, prepared.connections, rate, arrivals, burstiness)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        workload = prepared.workload(rows_per_request(options, name))
        senders = prepared.senders(workload, load.connections, stack)
        result = measure(prepared, load, name, workload, senders, options.out)
    if options.plot is not None:
        export([result], options.plot)
    show_result(result, options.as_json)
    finish(result)


def checked_scenario(options: BenchOptions, scenario: str | None, rate: float | None) -> str:
    """The name of the scenario.

    Raises:
        typer.BadParameter: it is unknown, or another option contradicts it.
    """
    from cascade.benchmarks.scenario import SCENARIOS

    name = scenario or ("offline" if rate is None else "server")
    if name not in SCENARIOS:
        raise typer.BadParameter(f"--scenario must be one of {', '.join(SCENARIOS)}; got {name!r}")
    found = SCENARIOS[name]
    if found.is_open != (rate is not None):
        raise typer.BadParameter(f"the scenario {name} {'needs a rate' if found.is_open else 'has no rate'}")
    for option, value, fixed in (
        ("--rows-per-request", options.rows_per_request, found.rows_per_request),
        ("--connections", options.connections, found.connections),
    ):
        if found.fixed and value not in (None, fixed):
            raise typer.BadParameter(f"the scenario {name} has {option} {fixed}; got {value}")
    return name


def rows_per_request(options: BenchOptions, scenario: str) -> int:
    """Rows of each request."""
    from cascade.benchmarks.scenario import SCENARIOS

    return options.rows_per_request or SCENARIOS[scenario].rows_per_request


def new_load(
    options: BenchOptions, scenario: str, connections: int, rate: float | None, arrivals: str, burstiness: float
) -> "Load":
    """An open loop with a rate, else a closed loop.

    Raises:
        typer.BadParameter: the arrivals are unknown, or a number is not finite.
    """
    from cascade.benchmarks.load import OPEN_LOOP_CONNECTIONS, Arrivals, ClosedLoop, OpenLoop
    from cascade.benchmarks.scenario import SCENARIOS

    if rate is None:
        fixed = SCENARIOS[scenario].connections
        return ClosedLoop(fixed or connections, options.seconds, options.warmup_seconds)
    if arrivals not in ("constant", "poisson", "gamma"):
        raise typer.BadParameter(f"--arrivals must be constant, poisson or gamma; got {arrivals!r}")
    if not (math.isfinite(rate) and math.isfinite(burstiness)):
        raise typer.BadParameter("--rate and --burstiness must be finite numbers")
    most = options.connections or OPEN_LOOP_CONNECTIONS
    kind = cast(Arrivals, arrivals)
    return OpenLoop(rate, options.seconds, options.warmup_seconds, most, kind, burstiness)
