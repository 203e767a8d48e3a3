"""What all verbs share: where they print, and how."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["JsonOption", "console", "print_result"]

console = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """Prints a result on standard output, as JSON or as a table of two columns."""
    if as_json:
        typer.echo(json.dumps(result, sort_keys=True))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in result.items():
        table.add_row(key.replace("_", " "), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return str(value)
