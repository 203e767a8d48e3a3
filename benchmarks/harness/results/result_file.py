"""The result file of an experiment: what was run, when, where, and what came of it."""

import json
import math
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.harness.results.figure import Figures, Found
from cascade.machine.description import describe_machine

__all__ = ["KEYS", "RESULTS", "ROOT", "SCHEMA_VERSION", "Start", "load_result", "plain", "save_result"]

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks" / "results"
SCHEMA_VERSION = 2
KEYS = frozenset(
    {"schema_version", "experiment", "date", "commit", "command", "options", "machine", "load_average"}
    | {"note", "figures", "found"}
)
"""Of a result file. Before version 2 files held ``found`` and ``machine`` alone; what was not recorded then is null."""


class Start:
    """The moment at which an experiment begins.

    Args:
        experiment: folder and name, such as "serving/poisson".
        arguments: of the command line.
        options: values of all options, by name.
    """

    def __init__(self, experiment: str, arguments: Sequence[str], options: Mapping[str, Any]) -> None:
        module = experiment.replace("/", ".")
        command = ["python", "-m", f"cascade.benchmarks.experiments.{module}", *map(_without_folder, arguments)]
        self._load = os.getloadavg()
        self._header = {
            "schema_version": SCHEMA_VERSION,
            "experiment": experiment,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
            "commit": commit(ROOT),
            "command": shlex.join(command),
            "options": {name: value.name if isinstance(value, Path) else value for name, value in options.items()},
            "note": None,
        }

    def result(self, found: Found, figures: Figures) -> dict[str, Any]:
        """The content of the result file, with the load average (1, 5 and 15 minutes) before and after."""
        return self._header | {
            "machine": describe_machine(),
            "load_average": {"before": self._load, "after": os.getloadavg()},
            "figures": {name: figure.to_dict() for name, figure in figures.items()},
            "found": found,
        }


def commit(folder: Path) -> str | None:
    """The commit of a work tree, with "+" where files differ from it; ``None`` outside of git."""
    ask = ["git", "-C", str(folder)]
    head = subprocess.run([*ask, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    changed = subprocess.run(
        [*ask, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if changed.stdout else "")


def _without_folder(argument: str) -> str:
    """An absolute path as its last part: a result file names no folder of a machine."""
    return Path(argument).name if argument.startswith("/") else argument


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def save_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result file as a whole: an older one stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    text = json.dumps(plain(result), indent=1, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def load_result(path: Path) -> dict[str, Any]:
    """Reads a result file.

    Raises:
        ResultError: it is not JSON, or lacks a key.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read: {error}") from error
    if not isinstance(result, dict) or result.keys() != KEYS or result["schema_version"] != SCHEMA_VERSION:
        raise ResultError(f"{path} must be a result of schema_version {SCHEMA_VERSION} with {', '.join(sorted(KEYS))}")
    return result
