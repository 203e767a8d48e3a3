"""Runs one benchmark from the command line: result, live numbers, verdict."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from cascade.cli.bench.preparation import Preparation
from cascade.cli.shared.console import console, print_result

if TYPE_CHECKING:
    from cascade.benchmarks.analysis.intervals import Estimate
    from cascade.benchmarks.analysis.result import Result
    from cascade.benchmarks.analysis.tally import Live
    from cascade.benchmarks.benchmark import Senders
    from cascade.benchmarks.load import Load
    from cascade.benchmarks.workload import Workload

__all__ = ["finish", "interruptible", "measure", "new_seed", "overview"]

SHOWN = {
    "rows_per_s": "rows/s",
    "requests_per_s": "requests/s",
    "offered_per_s": "requests/s offered",
    "goodput_per_s": "goodput, requests/s",
    "failed_share": "share failed",
    "accuracy": "accuracy",
    "abstained": "share abstained",
    "degraded": "share degraded",
    "mean_cost": "mean cost",
    "send_lag.p99_ms": "send lag p99, ms",
    "client.busiest_share": "client, share of a processor",
    "engine.times_faster": "times faster than the last stage alone",
    "engine.ms_per_row": "engine, ms per row",
    "engine.overhead": "engine's time over that of its stages",
    "engine.engine_only": "the same, at the stages' own batch sizes",
}


def measure(
    prepared: Preparation,
    load: "Load",
    scenario: str,
    workload: "Workload",
    senders: "Senders",
    out: Path | None,
) -> "Result":
    """Measures, and returns the result; that of a benchmark that was ended early is in the exception's ``result``.

    Args:
        prepared: target and rows.
        load: to send.
        scenario: its name.
        workload: the rows in requests.
        senders: running processes of the client.
        out: file of the result.
    """
    from cascade.benchmarks.analysis.request_log import RequestLog
    from cascade.benchmarks.benchmark import Benchmark

    options = prepared.options
    result = _new_result(prepared, load, scenario, workload)
    with ExitStack() as stack:
        log = None if options.log is None else stack.enter_context(RequestLog(options.log))
        show = stack.enter_context(_live(options.repeats, options.as_json))
        benchmark = Benchmark(
            load, workload, result, out, options.goodput_ms, log, _engine(prepared, workload, load), show
        )
        try:
            benchmark.run(senders, options.repeats, int(result.options["seed"]))
        finally:
            if prepared.cascade is not None and result.repeats:
                result.measured.prediction = _prediction(prepared, workload, result)
                if out is not None:
                    benchmark._save(result)
            if sys.exc_info()[0] is not None and result.repeats:
                show_result(result, options.as_json)
    return result


def new_seed(given: int | None) -> int:
    """The given seed, or a new one."""
    return secrets.randbelow(2**31) if given is None else given


def _new_result(prepared: Preparation, load: "Load", scenario: str, workload: "Workload") -> "Result":
    from cascade.benchmarks.analysis.objectives import Objectives
    from cascade.benchmarks.analysis.result import Measured, Result, code_commit
    from cascade.machine.description import describe_machine

    options = prepared.options
    recorded = options.recorded() | {"seed": new_seed(options.seed)}
    least = options.min_accuracy
    constant = prepared.constant_accuracy
    if least is None and constant is not None:
        least = constant / 2
    sizes = {len(batch) for batch in workload.batches}
    share, burst = options.hard_share, options.hard_burst_s
    measured = Measured(
        config=None if prepared.config is None else prepared.config.name,
        target=options.target,
        scenario=scenario,
        load=load.words,
        rows_per_request=sizes.pop() if len(sizes) == 1 else None,
        connections=load.connections,
        rate_per_s=load.rate_per_s if load.is_open else None,
        mix=None if share is None else f"{share:.0%} hard" + (f", bursts of {burst:g} s" if burst else ""),
        data=str(options.dataset or recorded["rows"] or ""),
        data_rows=len(prepared.rows),
        cost_unit=None if prepared.cascade is None else prepared.cascade.policy.cost_unit,
    )
    return Result(
        date=datetime.now(timezone.utc),
        commit=code_commit(Path(__file__).resolve().parent),
        machine=describe_machine() | {"load_average": os.getloadavg()},
        options=recorded,
        measured=measured,
        objectives=Objectives(
            max_p99_ms=options.max_p99_ms,
            min_rows_per_s=options.min_rows_per_s,
            min_accuracy=least,
            min_different_answers=2 if options.min_accuracy is None and prepared.needs_different_answers else None,
            max_failed=options.max_failed,
        ),
    )


def _engine(prepared: Preparation, workload: "Workload", load: "Load") -> Callable[[], dict[str, Any]] | None:
    """Times the engine and its stages by turns; the one place that says how much faster the cascade is."""
    if prepared.cascade is None:
        return None
    from cascade.benchmarks.overhead import measure_engine

    cascade = prepared.cascade

    def timed() -> dict[str, Any]:
        seen = measure_engine(cascade, workload, load.seconds).to_dict()
        return {"times_faster": seen.pop("biggest_ratio"), **seen}

    return timed


def _prediction(prepared: Preparation, workload: "Workload", result: "Result") -> dict[str, Any] | None:
    """Predicted and realised time of the engine; ``None`` if the policy has no cost curves."""
    from cascade.benchmarks.time_prediction import TimePrediction
    from cascade.calibration.costs.arrivals import RowsTogether

    timed = result.values("engine.ms_per_row")
    if prepared.cascade is None or not timed:
        return None
    arrivals = RowsTogether((workload.rows_per_request,))
    predicted = prepared.cascade.policy.predicted_ms(arrivals)
    return None if predicted is None else TimePrediction(predicted, float(np.median(timed)), str(arrivals)).to_dict()


@contextmanager
def _live(repeats: int, quiet: bool) -> Iterator[Callable[[int, "Live"], None]]:
    """Shows the last second of a running load on a terminal."""
    if quiet or not console.is_terminal:
        yield lambda repeat, live: None
        return
    with console.status("warming up") as status:

        def show(repeat: int, live: "Live") -> None:
            status.update(
                f"repeat {repeat} of {repeats}, {live.seconds:.0f} s: {live.requests_per_s:,.0f} requests/s, p50 "
                f"{live.p50_ms:.3g} ms, p99 {live.p99_ms:.3g} ms, failed {live.failed:,}"
            )

        yield show


@contextmanager
def interruptible() -> Iterator[None]:
    """Ends a benchmark in order at SIGTERM as at Ctrl-C; the exit codes are 143 and 130."""
    ended_by = [130]

    def end(*_: object) -> None:
        ended_by[0] = 143
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as error:
        console.print("ended early; what was measured is kept, and marked as partial", highlight=False)
        raise typer.Exit(ended_by[0]) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def show_result(result: "Result", as_json: bool) -> None:
    """Prints a result."""
    if as_json:
        typer.echo(result.model_dump_json())
        return
    from cascade.benchmarks.scenario import SCENARIOS

    facts: dict[str, Any] = {"measured": result.title, "policy_version": result.measured.policy_version}
    metric = SCENARIOS[result.measured.scenario].metric if result.measured.scenario in SCENARIOS else ""
    scenario = result.measured.scenario
    scenario += f" (its number: {metric.replace('latency_ms.', 'latency ')})" if metric else ""
    facts |= {"scenario": scenario, "repeats": len(result.repeats)} | overview(result.summary)
    errors = {name: text for one in result.repeats for name, text in one.messages.items() if name in one.errors}
    facts |= {f"failed, {name}": text for name, text in errors.items()}
    if result.measured.prediction is not None:
        facts["predicted over realised time"] = result.measured.prediction["ratio"]
    if result.state == "partial":
        facts["partial"] = result.ended_by
    print_result(facts, as_json=False)
    for remark in result.remarks:
        console.print(f"remark: {remark}", highlight=False)


def overview(summary: Mapping[str, "Estimate"]) -> dict[str, str]:
    """One line per number: the median and the interval of the mean; the range with too few repeats for one."""
    lines = {}
    latencies = {name: f"latency {name[11:]}, ms" for name in summary if name.startswith("latency_ms.")}
    shares = {name: f"share of {name[12:]}" for name in summary if name.startswith("stage_share.")}
    for name, label in {**SHOWN, **latencies, **shares}.items():
        found = summary.get(name)
        if found is None or (name in ("abstained", "degraded") and not found.largest):
            continue
        low, high = (found.smallest, found.largest) if found.low is None else (found.low, found.high)
        kind = "" if found.low is not None else ", range"
        lines[label] = f"{found.median:.4g} ({low:.4g} to {high:.4g}{kind})"
    return lines


def finish(result: "Result") -> None:
    """Ends with exit code 6 where the result is invalid or an objective is missed.

    Raises:
        InvalidMeasurement: the client was the limit.
        ObjectiveMissed: an objective is missed.
    """
    from cascade.benchmarks.errors import InvalidMeasurement
    from cascade.errors import ObjectiveMissed

    if result.invalid:
        raise InvalidMeasurement("the result is invalid, since the client was the limit: " + "; ".join(result.invalid))
    if result.missed:
        raise ObjectiveMissed("objective missed: " + "; ".join(result.missed))
