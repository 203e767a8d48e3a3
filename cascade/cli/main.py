"""The entry point of the command ``cascade``."""

import sys

import typer

from cascade.cli.train import train
from cascade.errors import CascadeError

__all__ = ["app", "main"]

app = typer.Typer(name="cascade", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(train)


@app.callback()
def _root() -> None:
    """Prediction cascades: deploy, tune, benchmark."""


def main() -> None:
    """Runs a verb; errors made by people become one message and an exit code."""
    try:
        app()
    except CascadeError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
