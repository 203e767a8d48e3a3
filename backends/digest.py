"""The digest of a model: two stages with the same one give the same answers."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.backends.config import BackendConfig, EnsembleConfig

__all__ = ["model_digest", "remembered_digest"]

WITHOUT_EFFECT = {"device", "threads", "packed", "graphs"}


def model_digest(config: BackendConfig) -> str:
    """SHA-256 of a backend's description, with the content of its files in place of their paths.

    Where and how it runs (device, threads, packed, graphs) does not count. Code does not either: of a network or a
    class of the user's own the name and the arguments count.

    Args:
        config: checked, so that its files exist.

    Returns:
        64 hexadecimal digits.
    """
    if isinstance(config, EnsembleConfig):
        members = [model_digest(member) for member in config.members]
        return _digest({"type": config.type, "rule": config.rule, "members": members})
    values = {
        name: _file_digest(value) if isinstance(value, Path) else value
        for name, value in config.model_dump(exclude=WITHOUT_EFFECT).items()
    }
    return _digest(values)


def remembered_digest() -> Callable[[BackendConfig], str]:
    """A function like :func:`model_digest` that reads the files of each backend once, for who asks again and again."""
    # By identity, since arguments of a user's own class cannot be hashed; the configurations are kept, too.
    known: dict[int, tuple[BackendConfig, str]] = {}

    def digest(config: BackendConfig) -> str:
        if id(config) not in known:
            known[id(config)] = config, model_digest(config)
        return known[id(config)][1]

    return digest


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
