"""Detects whether the last operation of a torch network computes probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

__all__ = ["OutputWatch"]

MAKE_PROBABILITIES = ("sigmoid", "sigmoid_", "softmax", "_softmax")
KEEP_VALUES = ("_to_copy", "contiguous", "flatten", "reshape", "select", "slice", "squeeze", "to", "unsqueeze", "view")


class OutputWatch(TorchDispatchMode):
    """Records the operations of one forward pass that compute probabilities, of functions and modules alike."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: list[tuple[torch.Tensor, str]] = []

    def operation(self, output: object) -> str | None:
        """The operation that computed the output, "sigmoid" or "softmax"; ``None`` if it was another one."""
        names = [name for tensor, name in self._made if tensor is output]
        return names[-1].strip("_") if names else None

    @override
    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "__name__", "")).partition(".")[0]
        if name in MAKE_PROBABILITIES:
            self._made.append((result, name))
        elif name in KEEP_VALUES:
            self._made += [(result, made) for tensor, made in self._made if tensor is args[0]][-1:]
        return result
