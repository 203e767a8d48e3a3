"""The digest of a model: two stages with the same digest return the same predictions."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cascade.backends.code.module_source import module_source
from cascade.backends.config import (
    MTCNN_SHA256,
    BackendConfig,
    CustomConfig,
    DynamicConfig,
    EnsembleConfig,
    MtcnnConfig,
    OnnxConfig,
    OpencvConfig,
    SklearnConfig,
    TorchConfig,
)
from cascade.backends.files.onnx_file import data_files
from cascade.errors import WeightsError

__all__ = ["model_digest", "remembered_digest"]

WITHOUT_EFFECT = {"device", "threads", "packed", "graphs"}
BLOCK_BYTES = 1 << 20


def model_digest(config: BackendConfig) -> str:
    """SHA-256 of a backend's configuration, with the content of its files instead of their paths.

    It also covers, for a user's network or class, the source file of its module, the files that its arguments name, and
    ``files``; for an ONNX network, its data files; for a scikit-learn model, the modules of trusted types beside the
    configuration. It does not cover where and how the model runs (device, threads, packed, graphs), this package's own
    modules, and what modules import.

    Args:
        config: checked, so that its files exist.

    Returns:
        64 hexadecimal digits.

    Raises:
        WeightsError: a data file is missing.
    """
    if isinstance(config, EnsembleConfig):
        members = [model_digest(member) for member in config.members]
        return _digest({"type": config.type, "rule": config.rule, "members": members})
    values = {
        name: _file_digest(value) if isinstance(value, Path) else value
        for name, value in config.model_dump(exclude=WITHOUT_EFFECT | _unused(config)).items()
    }
    return _digest(values | _beyond(config))


def remembered_digest() -> Callable[[BackendConfig], str]:
    """A function like :func:`model_digest` that caches the result for each configuration."""
    # Cached by identity, since a user's arguments may not be hashable; the configurations are kept alive as well.
    known: dict[int, tuple[BackendConfig, str]] = {}

    def digest(config: BackendConfig) -> str:
        if id(config) not in known:
            known[id(config)] = config, model_digest(config)
        return known[id(config)][1]

    return digest


def _unused(config: BackendConfig) -> set[str]:
    """Keys to leave out: those added later, so that older digests stay valid, and files, which ``_beyond`` covers."""
    plain = isinstance(config, TorchConfig) and config.output_kind == "logits"
    return (
        {"files"} | ({"output_kind"} if plain else set()) | ({"model"} if isinstance(config, OpencvConfig) else set())
    )


def _beyond(config: BackendConfig) -> dict[str, Any]:
    """Digests of content that the configuration only refers to."""
    if isinstance(config, OnnxConfig):
        found = {"data_files": [_file_digest(path) for path in data_files(config.model)]}
    elif isinstance(config, SklearnConfig):
        found = {"sources": [_file_digest(path) for path in _trusted_sources(config)]}
    elif isinstance(config, OpencvConfig):
        found = {"model": [_file_digest(config.file)]}
    elif isinstance(config, MtcnnConfig):
        found = {"weights": [MTCNN_SHA256[config.network]]}
    elif isinstance(config, CustomConfig | TorchConfig | DynamicConfig):
        source = module_source(config.object if isinstance(config, CustomConfig) else config.network, config.folder)
        named = [config.folder / text for text in _texts(config.arguments)]
        found = {
            "source": [] if source is None else [_file_digest(source)],
            "argument_files": [_file_digest(path) for path in named if _is_file(path)],
            "files": [_file_digest(path) for path in config.files] if isinstance(config, CustomConfig) else [],
        }
    else:
        found = {}
    return {name: digests for name, digests in found.items() if digests}


def _trusted_sources(config: SklearnConfig) -> list[Path]:
    """Modules of trusted types beside the configuration, without those of installed packages."""
    found = [module_source(name.rpartition(".")[0], config.folder) for name in config.trusted]
    folder = config.folder.resolve()
    return [
        path
        for path in found
        if path is not None and folder in path.resolve().parents and "site-packages" not in path.parts
    ]


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested lists and dicts, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for _, each in sorted(value.items(), key=str):
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    state = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                state.update(block)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist; it holds data of the model") from error
    return state.hexdigest()
