"""The shell of every experiment: options, signals, the result file, the verdict and the exit code.

An experiment is a function that measures and returns what it found, and a function that names the figures in it. One
that takes long yields what it has so far; every state is saved.
"""

import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.benchmarks.harness.results.figure import Figure, Figures, FiguresOf, Found
from cascade.benchmarks.harness.results.result_file import RESULTS, Start, save_result
from cascade.cli.shared.console import console
from cascade.errors import CascadeError, ObjectiveMissed

__all__ = ["Figure", "Figures", "Found", "run_experiment"]

Main = Callable[..., Found | Iterator[Found]]
Draw = Callable[[Found, Path], None]


def run_experiment(main: Main, figures: FiguresOf, draw: Draw | None = None, picture: Path | None = None) -> None:
    """Runs the command line of an experiment, and ends the process.

    The exit code is 0, 6 where a figure misses what is sought, 143 after SIGTERM, so that servers are stopped then,
    too, and that of the error where the library raises one.

    Args:
        main: takes the options, as typer reads them from its signature.
        figures: of what ``main`` returns.
        draw: draws the picture.
        picture: default path; beside the result file if not given, and where ``--out`` is.
    """
    file = Path(main.__code__.co_filename)
    experiment = f"{file.parent.name}/{file.stem}"
    default = RESULTS / f"{experiment}.json"

    def command(out: Path, **options: Any) -> None:
        start = Start(experiment, sys.argv[1:], options)
        measured = main(**options)
        so_far: dict[str, Any] = {}
        for found in measured if isinstance(measured, Iterator) else [measured]:
            result = start.result(found, figures(found))
            save_result(out, result)
            report({name: figure for name, figure in result["figures"].items() if so_far.get(name) != figure})
            so_far = result["figures"]
        if draw is not None:
            draw(found, picture if picture is not None and out == default else out.with_suffix(".png"))
        missed = [name for name, figure in so_far.items() if figure["satisfied"] is False]
        if missed:
            raise ObjectiveMissed(f"missed: {', '.join(missed)}")

    option = Annotated[Path, typer.Option(help="Result file.", show_default=False)]
    own = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
    parameters = inspect.signature(main).parameters.values()
    command.__signature__ = inspect.Signature([*parameters, own])  # type: ignore[attr-defined]
    command.__annotations__ = main.__annotations__ | {"out": option, "return": None}
    command.__doc__ = main.__doc__
    # Background shells ignore SIGINT, and nohup ignores SIGHUP; servers would inherit that, and they are stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        typer.run(command)
    except CascadeError as error:
        console.print(f"error: {error}", highlight=False)
        sys.exit(error.exit_code)


def report(figures: dict[str, Any]) -> None:
    """Prints figures of a result file, and whether each reaches what is sought."""
    for name, figure in figures.items():
        line = f"{name}: {figure['value']:.4g}" if figure["value"] is not None else f"{name}: nothing measured"
        if figure["sought"] is not None:
            verdict = "satisfied" if figure["satisfied"] else "missed"
            line += f" (sought {figure['comparison']} {figure['sought']:g}: {verdict})"
        typer.echo(line)
