"""The entry point of the command ``cascade``."""

import sys
from typing import Annotated

import typer

from cascade.cli.audit import audit
from cascade.cli.bench import bench
from cascade.cli.build import build
from cascade.cli.calibrate import calibrate
from cascade.cli.check import check
from cascade.cli.collect import collect
from cascade.cli.data import data
from cascade.cli.detect import detect
from cascade.cli.evaluate import evaluate
from cascade.cli.explain import explain
from cascade.cli.import_log import import_log
from cascade.cli.init import init
from cascade.cli.plan import plan
from cascade.cli.predict import predict
from cascade.cli.reload import reload
from cascade.cli.report import report
from cascade.cli.schema import schema
from cascade.cli.search import search
from cascade.cli.serve import serve
from cascade.cli.status import status
from cascade.cli.train import train
from cascade.errors import CascadeError, InputError

__all__ = ["app", "main"]

app = typer.Typer(name="cascade", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(init)
app.command()(schema)
app.command()(check)
app.command()(collect)
app.command("import")(import_log)
app.command()(calibrate)
app.command()(search)
app.command()(evaluate)
app.command()(explain)
app.command()(report)
app.command()(predict)
app.command()(detect)
app.command()(plan)
app.command()(serve)
app.command()(build)
app.command()(status)
app.command()(reload)
app.command()(audit)
app.add_typer(bench)
app.command()(train)
app.command()(data)


def _print_version(asked: bool) -> None:
    if asked:
        from cascade import __version__

        typer.echo(f"idk-cascade {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Prediction cascades: tune, deploy, benchmark."""


def main() -> None:
    """Runs a verb; an expected error becomes one message and an exit code."""
    try:
        app()
    except CascadeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a file that cannot be written, a full disk, a port in use
        typer.echo(f"error: {error}", err=True)
        sys.exit(InputError.exit_code)
