"""The result file of a benchmark."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.measurement import spread
from cascade.machine.description import describe_machine

__all__ = ["SCHEMA_VERSION", "Result"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """Everything about one benchmark.

    Attributes:
        measured: config, policy version, target, batch, connections.
        machine: on which it ran.
        options: of the command; files by their names only.
        repeats: the numbers of each repeat.
        schema_version: of this format.
    """

    measured: dict[str, Any]
    machine: dict[str, Any]
    options: dict[str, Any]
    repeats: tuple[dict[str, Any], ...]
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def here(cls, measured: dict[str, Any], options: dict[str, Any], repeats: Sequence[dict[str, Any]]) -> "Result":
        """A result of this machine."""
        return cls(measured, describe_machine(), options, tuple(repeats))

    @property
    def summary(self) -> dict[str, Any]:
        """Median, min and max over the repeats of every number."""
        return spread(self.repeats)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"repeats": list(self.repeats), "summary": self.summary}

    def save(self, path: Path | str) -> None:
        """Writes JSON, by renaming a complete file."""
        partial = Path(f"{path}.partial")
        text = json.dumps(self.to_dict(), sort_keys=True, indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> "Result":
        """Reads a result file.

        Raises:
            ResultError: it is missing, is not JSON, or is not a result.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ResultError(f"{path} does not exist; 'cascade bench --out' makes it") from error
        except (OSError, ValueError) as error:
            raise ResultError(f"{path} is not a JSON file: {error}") from error
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            raise ResultError(f"{path} must be a result of schema_version {SCHEMA_VERSION}")
        missing = [name for name in ("measured", "machine", "options", "repeats") if name not in values]
        if missing or not values["repeats"]:
            raise ResultError(f"{path} lacks {', '.join(missing) or 'repeats'}")
        if not isinstance(values["repeats"], list) or not all(isinstance(one, dict) for one in values["repeats"]):
            raise ResultError(f"{path} must have a list of objects as its repeats")
        return cls(values["measured"], values["machine"], values["options"], tuple(values["repeats"]))
