"""Weights files: safetensors with a few facts in the header; loading them runs no code."""

from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cascade.errors import WeightsError

__all__ = ["load_tensors", "load_weights", "read_facts", "read_tensors", "save_weights"]


def save_weights(path: Path, network: nn.Module, facts: dict[str, str], dtype: torch.dtype = torch.float32) -> None:
    """Writes the weights and buffers of a network.

    Args:
        path: the file; written atomically.
        network: the network.
        facts: header entries, such as "folded" ("true" if the batch norms are folded in).
        dtype: of the floating-point tensors on disk.
    """
    tensors = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={**facts, "format": "pt"})
    partial.replace(path)


def read_facts(path: Path) -> dict[str, str]:
    """The header entries of a weights file.

    Raises:
        WeightsError: the file is missing or is not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise WeightsError(f"weights file {path} does not exist") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); fetch or train it again") from error


def load_weights(path: Path, network: nn.Module, without: Collection[str] = (), part: str = "") -> None:
    """Loads a weights file into a network of the same structure.

    Args:
        path: the file.
        network: changed in place.
        without: dotted names of layers to leave unchanged; they may have another shape in the file.
        part: dotted name of the part of the file's network to load; empty for all of it.

    Raises:
        WeightsError: the file is missing or damaged, or its tensors do not fit the network.
    """
    load_tensors(read_tensors(path, part), network, without, path)


def read_tensors(path: Path, part: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a weights file by their dotted names, or those of a part by their names in the part.

    Raises:
        WeightsError: the file is missing or is not a whole safetensors file.
    """
    read_facts(path)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    if part:
        tensors = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if _is_in(key, [part])}
    return tensors


def load_tensors(tensors: dict[str, torch.Tensor], network: nn.Module, without: Collection[str], path: Path) -> None:
    """Loads all tensors of a network but those of the layers ``without``; ``path`` is named in the error.

    Raises:
        WeightsError: the tensors do not fit the network.
    """
    kept = {key: value for key, value in network.state_dict().items() if _is_in(key, without)}
    tensors = {key: value for key, value in tensors.items() if not _is_in(key, without)}
    try:
        network.load_state_dict(tensors | kept)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(network).__name__}: {error}") from error


def _is_in(key: str, layers: Collection[str]) -> bool:
    return any(key.startswith(f"{layer}.") for layer in layers)
