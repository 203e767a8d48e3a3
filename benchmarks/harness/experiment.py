"""What every experiment shares: its command line and its result file."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from cascade.errors import CascadeError

__all__ = ["RESULTS", "run_experiment", "save_result"]

RESULTS = Path(__file__).resolve().parents[1] / "results"


def run_experiment(main: Callable[..., Any]) -> None:
    """Runs the command line of an experiment; a problem that the product reports is one line and exit code 1."""
    try:
        typer.run(main)
    except CascadeError as error:
        sys.exit(f"error: {error}")


def save_result(out: Path, result: Mapping[str, Any]) -> None:
    """Writes a result file as a whole: one that is there stays until the new one is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(result, indent=1, sort_keys=True, default=float) + "\n", encoding="utf-8")
    part.replace(out)
