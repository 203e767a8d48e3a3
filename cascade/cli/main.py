"""The entry point of the command ``cascade``."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cascade.cli.bench import bench
from cascade.cli.deploy.audit import audit
from cascade.cli.deploy.build import build
from cascade.cli.deploy.plan import plan
from cascade.cli.deploy.reload import reload
from cascade.cli.deploy.serve import serve
from cascade.cli.deploy.status import status
from cascade.cli.inference.detect import detect
from cascade.cli.inference.predict import predict
from cascade.cli.setup.check import check
from cascade.cli.setup.data import data
from cascade.cli.setup.init import init
from cascade.cli.setup.schema import schema
from cascade.cli.training.train import train
from cascade.cli.tune.calibrate import calibrate
from cascade.cli.tune.collect import collect
from cascade.cli.tune.evaluate import evaluate
from cascade.cli.tune.explain import explain
from cascade.cli.tune.import_log import import_log
from cascade.cli.tune.report import report
from cascade.cli.tune.search import search
from cascade.errors import CascadeError, InputError

__all__ = ["app", "main"]

app = typer.Typer(name="cascade", no_args_is_help=True, pretty_exceptions_enable=False)
VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Models and data": (init, schema, check, data, train),
    "Tune": (collect, import_log, calibrate, search, evaluate, explain, report),
    "Answer without a server": (predict, detect),
    "Deploy": (plan, serve, build, status, reload, audit),
}
"""In the order of the help; each group but training is a folder beside this file."""
NAMES = {import_log: "import"}

for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(NAMES.get(verb), rich_help_panel=panel)(verb)
app.add_typer(bench, rich_help_panel="Benchmark")


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
