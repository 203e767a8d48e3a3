"""The input of a network with paths: one tensor, or named slices of the row."""

from collections.abc import Mapping

import torch

__all__ = ["Inputs", "first_row", "input_shapes", "moved", "row_count"]

Inputs = torch.Tensor | Mapping[str, torch.Tensor]
"""(n, ...), or tensors (n, ...) by name, such as "image", "program", "task"."""


def row_count(inputs: Inputs) -> int:
    """Their number of rows n."""
    return len(inputs) if isinstance(inputs, torch.Tensor) else len(next(iter(inputs.values())))


def first_row(inputs: Inputs) -> Inputs:
    """The first row, (1, ...)."""
    return inputs[:1] if isinstance(inputs, torch.Tensor) else {name: value[:1] for name, value in inputs.items()}


def moved(inputs: Inputs, device: torch.device | str) -> Inputs:
    """The same on another device."""
    return (
        inputs.to(device)
        if isinstance(inputs, torch.Tensor)
        else {name: value.to(device) for name, value in inputs.items()}
    )


def input_shapes(inputs: Inputs) -> tuple[tuple[str, torch.Size], ...]:
    """Name and shape of a row, for each slice; the name of a single tensor is empty."""
    named = {"": inputs} if isinstance(inputs, torch.Tensor) else inputs
    return tuple((name, value.shape[1:]) for name, value in named.items())
