"""A training in the middle, in one safetensors file: weights, optimizer, history."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, metadata: dict[str, Any]) -> None:
    """Writes a checkpoint; a reader never sees half of it.

    Args:
        path: the file, replaced at once when the new one is complete.
        network: its weights and buffers are kept.
        optimizer: the tensors of its state are kept; its options are the recipe's.
        metadata: plain values (JSON).
    """
    tensors = {f"network.{key}": value.contiguous() for key, value in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if torch.is_tensor(value):
                tensors[f"optimizer.{index}.{key}"] = value.contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"training": json.dumps(metadata)})
    partial.replace(path)


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: dict[str, Any]
) -> dict[str, Any] | None:
    """Continues from a checkpoint, if there is a whole one of the same recipe.

    Args:
        path: the file.
        network: gets its weights and buffers.
        optimizer: gets the tensors of its state.
        recipe: plain values; must equal "recipe" of the metadata.

    Returns:
        The metadata, or ``None`` if there is no checkpoint, it cannot be read or it is another recipe's: network and
        optimizer are then as they were, and training starts over.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {})["training"])
            if metadata["recipe"] != recipe:
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
    return metadata
