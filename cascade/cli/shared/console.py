"""Output of the verbs: progress on standard error, results on standard output."""

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
    """Prints a result on standard output.

    Args:
        result: facts by name.
        as_json: print all facts as JSON; else a table of two columns, without facts that are ``None`` or empty.
    """
    if as_json:
        typer.echo(json.dumps(result, sort_keys=True))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in result.items():
        if value is not None and value not in ("", [], (), {}):
            table.add_row(key.replace("_", " "), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return str(value)
