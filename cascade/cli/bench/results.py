"""``cascade bench compare`` and ``plot``: what becomes of results."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.shared.console import JsonOption, console, print_result

__all__ = ["compare", "plot"]


def compare(
    first: Annotated[Path, typer.Argument(help="Result of 'cascade bench', the base.")],
    second: Annotated[Path, typer.Argument(help="Result that is judged.")],
    tolerance: Annotated[float, typer.Option(min=0, max=0.9, help="A change of so much is none, such as 0.05.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Ratios of the second result to the first, with intervals; exit code 6 if it is worse by more than noise."""
    from cascade.benchmarks.analysis.comparison import compare as compared
    from cascade.benchmarks.analysis.comparison import differences
    from cascade.benchmarks.analysis.intervals import METHOD
    from cascade.benchmarks.analysis.result import Result
    from cascade.benchmarks.errors import ResultError
    from cascade.errors import ObjectiveMissed

    results = [Result.load(path) for path in (first, second)]
    for path, result in zip((first, second), results):
        if not result.repeats:
            raise ResultError(f"{path} has no repeats; nothing was measured")
    changes = compared(results[0], results[1], tolerance)
    others = differences(results[0], results[1])
    if as_json:
        values: dict[str, Any] = {
            one.name: vars(one) | {"ratio": None if one.ratio is None else one.ratio.model_dump()} for one in changes
        }
        print_result({"changes": values, "differences": others, "interval_method": METHOD}, as_json=True)
    else:
        print_result({one.name: _line(one) for one in changes}, as_json=False)
        for text in others:
            console.print(f"remark: the results differ in {text}", highlight=False)
    worse = [one for one in changes if one.verdict == "worse"]
    if worse:
        raise ObjectiveMissed("worse beyond noise: " + "; ".join(f"{one.name} {_line(one)}" for one in worse))


def _line(change: Any) -> str:
    line = f"{change.first:.4g} -> {change.second:.4g}"
    if change.ratio is not None:
        line += f", ratio {change.ratio.mean:.3g}"
        if change.ratio.low is not None:
            line += f" ({change.ratio.low:.3g} to {change.ratio.high:.3g})"
    return f"{line}: {change.verdict}"


def plot(
    results: Annotated[
        list[Path], typer.Argument(help="Results of 'cascade bench'; several are drawn against the rate.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="File to write: .png, .svg, .pdf, .html, .csv, .hgrm, or .json for Ray's release metrics."),
    ],
) -> None:
    """Write results as a picture, an HTML page, a table, HdrHistogram's text or Ray's release metrics."""
    from cascade.benchmarks.analysis.exports import EXPORT_SUFFIXES, export
    from cascade.benchmarks.analysis.result import Result

    if out.suffix not in EXPORT_SUFFIXES:
        raise typer.BadParameter(f"--out must end in {', '.join(EXPORT_SUFFIXES)}; got {out.name!r}")
    export([Result.load(path) for path in results], out)
