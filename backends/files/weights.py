"""Weights files: safetensors with a few facts in the header; loading them runs no code."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cascade.errors import WeightsError

__all__ = [
    "StoredPrecision",
    "load_tensors",
    "load_weights",
    "read_facts",
    "read_tensors",
    "save_weights",
    "weights_path",
]

StoredPrecision = Literal["float32", "float16", "int8"]
SCALE = ".scale"  # ends the name of an int8 tensor's scales: no parameter or buffer has such a name
INT8_MAX = 127


def weights_path(recipe_path: Path) -> Path:
    """``weights/NAME.safetensors``, in the folder of the recipe, or beside that folder if its name is ``recipes``."""
    folder = recipe_path.resolve().parent
    return (folder.parent if folder.name == "recipes" else folder) / "weights" / f"{recipe_path.stem}.safetensors"


def save_weights(path: Path, network: nn.Module, facts: dict[str, str], precision: StoredPrecision = "float32") -> None:
    """Writes the weights and buffers of a network.

    Args:
        path: the file; written atomically.
        network: the network.
        facts: header entries, such as "folded" ("true" if the batch norms are folded in).
        precision: of the floating-point tensors on disk. "int8" stores parameters of two and more axes as whole numbers
            in [-127, 127], with one float32 scale for each index of the first axis (an output channel), and other
            tensors as float32; 4 times smaller than "float32".

    Raises:
        WeightsError: a parameter is not finite, or a finite value is too large for this precision; no file is written.
            Buffers may hold infinite values.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    tensors: dict[str, torch.Tensor] = {}
    for key, value in network.state_dict().items():
        stored = _stored(key, value, precision, key in parameters)
        if key in parameters:
            representable = all(bool(each.isfinite().all()) for each in stored.values())
        else:
            representable = torch.equal(stored[key].isfinite(), value.isfinite())
        if not representable:
            raise WeightsError(
                f"{path} was not written: {key} holds values that are not finite in {precision}; the training "
                'diverged, or a value is too large for stored_precision (65,504 for "float16")'
            )
        tensors |= stored
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={**facts, "format": "pt"})
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

    Tensors with scales are multiplied by them.

    Raises:
        WeightsError: the file is missing or is not a whole safetensors file, or scales do not fit their tensors.
    """
    read_facts(path)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    for key in [key for key, value in tensors.items() if value.dtype == torch.int8 and key + SCALE in tensors]:
        scale = tensors.pop(key + SCALE)
        if scale.shape != _scale_shape(tensors[key]):
            raise WeightsError(
                f"{path}: {key}{SCALE} has the shape {tuple(scale.shape)}, and {key} {tuple(tensors[key].shape)}; one "
                "scale for each index of the first axis was expected"
            )
        tensors[key] = tensors[key] * scale
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


def _stored(key: str, value: torch.Tensor, precision: StoredPrecision, parameter: bool) -> dict[str, torch.Tensor]:
    """A tensor as it is written: itself, in this precision, or with its scales."""
    if not value.is_floating_point():
        return {key: value}
    if precision != "int8":
        return {key: value.to(getattr(torch, precision))}
    value = value.float()
    if not parameter or value.ndim < 2 or not value.numel():
        return {key: value}
    largest = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True)
    scale = torch.where(largest > 0, largest / INT8_MAX, 1.0)
    return {key: (value / scale).round().to(torch.int8), key + SCALE: scale}


def _scale_shape(value: torch.Tensor) -> torch.Size:
    return torch.Size([*value.shape[:1], *[1] * (value.ndim - 1)])


def _is_in(key: str, layers: Collection[str]) -> bool:
    return any(key.startswith(f"{layer}.") for layer in layers)
