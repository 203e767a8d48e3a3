"""``cascade bench replay``: the requests of a trace."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.bench.measurement import finish, interruptible, measure, show_result
from cascade.cli.bench.options import BenchOptions, with_bench_options
from cascade.cli.bench.preparation import prepare

__all__ = ["replay"]


@with_bench_options
def replay(
    options: BenchOptions,
    trace: Annotated[Path, typer.Argument(help="CSV with time_s, and rows and deadline_ms where they are known.")],
    speed: Annotated[float, typer.Option(min=0.001, max=1e6, help="How many times faster than recorded.")] = 1.0,
) -> None:
    """Send the requests of a trace at their moments; within their deadlines, they count as goodput."""
    from cascade.benchmarks.analysis.exports import export
    from cascade.benchmarks.load import OPEN_LOOP_CONNECTIONS, Trace

    load = Trace.load(trace, options.connections or OPEN_LOOP_CONNECTIONS).faster(speed)
    if options.rows_per_request is not None:
        raise typer.BadParameter("a trace has its own rows per request; leave --rows-per-request out")
    prepared = prepare(options)
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        workload = prepared.workload(load.rows.tolist())
        senders = prepared.senders(workload, load.connections, stack)
        result = measure(prepared, load, "trace", workload, senders, options.out)
    if options.plot is not None:
        export([result], options.plot)
    show_result(result, options.as_json)
    finish(result)
