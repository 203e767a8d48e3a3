"""The file of a policy, or of a set of policies."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cascade.errors import PolicyError
from cascade.files.result_files import write_whole
from cascade.files.text_files import read_text

__all__ = ["digest", "json_text", "load_policies", "parse_policies", "save_policies"]

Policies = TypeVar("Policies")


def json_text(values: Mapping[str, Any]) -> str:
    """Equal values give the same text: sorted keys, floats that round-trip."""
    return json.dumps(values, sort_keys=True, indent=1, allow_nan=False) + "\n"


def digest(text: str) -> str:
    """First 12 hexadecimal digits of the SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save_policies(text: str, path: Path | str) -> None:
    """Writes a file as a whole; see ``write_whole``."""
    write_whole(path, text)


def load_policies(path: Path | str, from_json: Callable[[str], Policies]) -> Policies:
    """Reads a file.

    Args:
        path: of the file.
        from_json: makes a policy or a policy set from its text.

    Raises:
        PolicyError: it is missing, cannot be read, or ``from_json`` refuses it; the text names the file.
    """
    try:
        text = read_text(path, "a policy (JSON)", PolicyError)
    except FileNotFoundError as error:
        raise PolicyError(f"policy {path} does not exist; 'cascade calibrate' makes it") from error
    try:
        return from_json(text)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


def parse_policies(text: str) -> Any:
    """The values of a JSON text. NaN and the infinities, which JSON does not have, and repeated keys are refused.

    Raises:
        PolicyError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"the policy is not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
