"""Checkpoints of a training, in one safetensors file: weights, optimizer, history."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, metadata: dict[str, Any]) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: of the file.
        network: its weights and buffers are saved.
        optimizer: the tensors of its state are saved; its options are in the recipe.
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
    """Restores a checkpoint, if there is a valid one of the same recipe.

    Args:
        path: of the file.
        network: its weights and buffers are restored.
        optimizer: the tensors of its state are restored.
        recipe: plain values; must equal "recipe" in the metadata.

    Returns:
        The metadata; ``None`` if there is no checkpoint, or it is damaged or of another recipe. Network and optimizer
        are unchanged then, and the training starts from the beginning.
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
