"""``cascade bench sweep``: the same benchmark at several rates or numbers of connections."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.bench.measurement import interruptible, measure
from cascade.cli.bench.options import BenchOptions, with_bench_options
from cascade.cli.bench.preparation import prepare
from cascade.cli.bench.run import (
    ArrivalsOption,
    BurstinessOption,
    ScenarioOption,
    checked_scenario,
    new_load,
    rows_per_request,
)
from cascade.cli.shared.console import console, print_result

if TYPE_CHECKING:
    from cascade.benchmarks.analysis.result import Result

__all__ = ["sweep"]


@with_bench_options
def sweep(
    options: BenchOptions,
    rates: Annotated[
        str | None, typer.Option(help="Requests/s to try, such as 100,200,400; ascending. Ends at the first miss.")
    ] = None,
    numbers: Annotated[
        str | None, typer.Option("--numbers-of-connections", help="Or closed loops, such as 1,2,4,8.")
    ] = None,
    refine: Annotated[
        int, typer.Option(min=0, max=20, help="Further rates, halfway between the best and the first that misses.")
    ] = 3,
    folder: Annotated[Path | None, typer.Option(help="Folder for the results, one file each.")] = None,
    scenario: ScenarioOption = None,
    arrivals: ArrivalsOption = "poisson",
    burstiness: BurstinessOption = 2.0,
) -> None:
    """Find the highest rate, or the most connections, at which the objectives are reached."""
    from cascade.benchmarks.analysis.exports import export
    from cascade.errors import ObjectiveMissed

    points = _points(rates, numbers)
    if options.out is not None or options.log is not None:
        raise typer.BadParameter("a sweep has several results: give their folder with --folder, and no --out or --log")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    name = checked_scenario(options, scenario, points[0] if rates else None)
    prepared = prepare(options)
    results: list[Result] = []
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        workload = prepared.workload(rows_per_request(options, name))
        loads = [new_load(options, name, prepared.connections, point, arrivals, burstiness) for point in points[-1:]]
        most = loads[0].connections if rates else int(points[-1])
        senders = prepared.senders(workload, most, stack)

        def tried(point: float) -> bool:
            """Whether a point reaches the objectives, with a client that is not the limit."""
            at = replace(options, connections=options.connections if rates else int(point))
            load = new_load(at, name, int(point), point if rates else None, arrivals, burstiness)
            out = None if folder is None else folder / f"{'rate' if rates else 'connections'}_{point:g}.json"
            results.append(measure(replace(prepared, options=at), load, name, workload, senders, out))
            console.print(_line(point, results[-1]), highlight=False)
            return not results[-1].missed and not results[-1].invalid

        best, first_missed = _walk(points, tried)
        if rates and best is not None and first_missed is not None:
            best, first_missed = _halved(best, first_missed, refine, tried)
    results.sort(key=lambda one: one.measured.rate_per_s or one.measured.connections)
    if options.plot is not None:
        export(results, options.plot)
    kind = "rate" if rates else "connections"
    found: dict[str, Any] = {f"highest_{kind}": best, f"first_{kind}_that_misses": first_missed}
    if options.as_json:
        found["results"] = [one.model_dump(mode="json") for one in results]
    print_result(found, options.as_json)
    if best is None:
        raise ObjectiveMissed(f"no {kind} reaches the objectives: " + "; ".join(results[0].invalid + results[0].missed))


def _walk(points: list[float], tried: Callable[[float], bool]) -> tuple[float | None, float | None]:
    """The last point that reaches the objectives, and the first that does not."""
    best = None
    for point in points:
        if not tried(point):
            return best, point
        best = point
    return best, None


def _halved(best: float, first_missed: float, times: int, tried: Callable[[float], bool]) -> tuple[float, float]:
    """The two again, closer to each other."""
    for _ in range(times):
        middle = float(f"{(best + first_missed) / 2:.4g}")
        if middle in (best, first_missed):
            break
        if tried(middle):
            best = middle
        else:
            first_missed = middle
    return best, first_missed


def _points(rates: str | None, numbers: str | None) -> list[float]:
    """The points to try, ascending.

    Raises:
        typer.BadParameter: neither or both are given, or they are not numbers above 0.
    """
    if (rates is None) == (numbers is None):
        raise typer.BadParameter("give either --rates or --numbers-of-connections")
    try:
        points: list[float] = sorted(
            {float(part) if rates else int(part) for part in (rates or numbers or "").split(",")}
        )
    except ValueError as error:
        raise typer.BadParameter(f"a sweep needs numbers such as 100,200,400; got {rates or numbers!r}") from error
    if not all(math.isfinite(point) and point > 0 for point in points):
        raise typer.BadParameter(f"the numbers of a sweep must be finite and above 0; got {rates or numbers!r}")
    return points


def _line(point: float, result: "Result") -> str:
    """A point of the sweep in one line."""
    summary = result.summary
    latency = ", ".join(
        f"{p} {summary[f'latency_ms.{p}'].median:.4g} ms" for p in ("p50", "p99") if f"latency_ms.{p}" in summary
    )
    verdict = "; ".join([*(f"invalid: {text}" for text in result.invalid), *result.missed]) or "objectives reached"
    return f"{point:g}: {summary['requests_per_s'].median:.4g} requests/s, {latency}: {verdict}"
