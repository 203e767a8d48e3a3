"""Convolutions of small networks, as fast on one row as in a batch."""

import threading
from collections.abc import Iterable, Sequence
from typing import TypeGuard, cast

import torch
from torch import nn

from cascade.backends.networks.image_resnet import BottleneckBlock
from cascade.backends.networks.onednn import After, Convolution, can_call
from cascade.backends.networks.resnet import BasicBlock

__all__ = ["PackedBlock", "PackedConvolutions", "can_pack", "pack_convolutions"]

FLOAT_BYTES = 4


class PackedConvolutions(nn.Module):
    """Consecutive convolutions, run row by row, so that intermediate results stay in the processor's cache.

    Their weights are in oneDNN's order, and a call has an overhead of 2 us, so a row takes the same time alone and in a
    batch. See :mod:`cascade.backends.networks.onednn`.

    Args:
        layers: convolutions in float32 on the processor, each with whether a ReLU follows.
    """

    def __init__(self, layers: Iterable[tuple[nn.Conv2d, bool]]) -> None:
        super().__init__()
        self._layers = tuple(layers)
        self.in_channels = self._layers[0][0].in_channels
        self._plans: dict[tuple[torch.Size, After | None, int], _Plan] = {}
        self._lock = threading.Lock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) float32 -> (n, c', h', w'), channels-last."""
        x = _channels_last(x)
        plan = self._plan(x, None)
        result = torch.empty((len(x), *plan.shape), memory_format=torch.channels_last)
        with self._lock:
            plan.run(x.data_ptr(), result.data_ptr(), range(len(x)))
        return result

    def add_to(self, target: torch.Tensor, x: torch.Tensor, rows: Sequence[int], relu: bool = True) -> None:
        """Adds the results of some rows to a target in place; other rows stay unchanged.

        Args:
            target: (n, c', h', w') float32, channels-last; may be ``x``.
            x: (n, c, h, w) float32.
            rows: their indices.
            relu: whether a ReLU of the sum follows.
        """
        x = _channels_last(x)
        if rows and not 0 <= min(rows) <= max(rows) < len(x):
            raise IndexError(f"rows must be in [0, {len(x)}); got {min(rows)} to {max(rows)}")
        plan = self._plan(x, "add, relu" if relu else "add")
        shape = (len(x), *plan.shape)
        if target.shape != shape or (target is not x and _channels_last(target) is not target):
            raise RuntimeError(f"the target must be {shape}, channels-last; got {tuple(target.shape)}")
        with self._lock:
            plan.run(x.data_ptr(), target.data_ptr(), rows)

    def _plan(self, x: torch.Tensor, end: After | None) -> "_Plan":
        key = (x.shape[1:], end, torch.get_num_threads())
        plan = self._plans.get(key)
        if plan is None:
            if x.shape[1] != self.in_channels:
                raise RuntimeError(f"packed convolutions need (n, {self.in_channels}, h, w); got {tuple(x.shape)}")
            plan = self._plans[key] = _Plan(self._layers, x.shape[1:], end)
        return plan


class _Plan:
    """Packed convolutions for images of one size.

    Args:
        layers: each with whether a ReLU follows.
        size: (c, h, w) of an image.
        end: what follows the last one instead of its own ReLU or none.

    Attributes:
        shape: (c', h', w') of a result.
    """

    def __init__(self, layers: Sequence[tuple[nn.Conv2d, bool]], size: torch.Size, end: After | None) -> None:
        steps: list[Convolution] = []
        shape = tuple(size)
        for layer, relu in layers:
            after: After = end if end and layer is layers[-1][0] else "relu" if relu else "none"
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
            weight, padding = layer.weight.detach().contiguous(), cast(tuple[int, ...], layer.padding)
            steps.append(Convolution(weight, bias, layer.stride, padding, layer.dilation, shape[1:], after))
            shape = steps[-1].shape
        self.shape = torch.Size(shape)
        self._row_bytes, self._result_bytes = size.numel() * FLOAT_BYTES, self.shape.numel() * FLOAT_BYTES
        self._steps = steps
        self._between = [torch.empty(step.shape) for step in steps[:-1]]
        for before, memory, after_it in zip(steps, self._between, steps[1:], strict=False):
            before.write_to(memory.data_ptr())
            after_it.read_from(memory.data_ptr())

    def run(self, source: int, target: int, rows: Iterable[int]) -> None:
        """Computes some rows, from and to images at these addresses; not thread-safe."""
        steps, row_bytes, result_bytes = self._steps, self._row_bytes, self._result_bytes
        read_from, write_to = steps[0].read_from, steps[-1].write_to
        for row in rows:
            read_from(source + row * row_bytes)
            write_to(target + row * result_bytes)
            for step in steps:
                step()


class PackedBlock(nn.Module):
    """A residual block with a packed residual, which is added in place to the output of the shortcut.

    Args:
        residual: of the block.
        shortcut: of the block; ``nn.Identity`` if the shape stays the same.
    """

    def __init__(self, residual: PackedConvolutions, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut
        self._keeps_shape = isinstance(shortcut, nn.Identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The ReLU of the sum; ``x`` stays unchanged, since a network may use it elsewhere."""
        return self.run_some(x.clone() if self._keeps_shape else x, range(len(x)))

    def run_some(self, x: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Runs the block for some rows; for the others only the shortcut, with a ReLU if the shape changes.

        Args:
            x: (n, c, h, w) float32, channels-last, >= 0; overwritten if the shape stays the same.
            rows: indices of the rows, each once.
        """
        result: torch.Tensor = x if self._keeps_shape else self.shortcut(x)
        self.residual.add_to(result, x, rows)
        return result if self._keeps_shape or len(rows) == len(x) else result.relu_()


def can_pack() -> bool:
    """Whether packed convolutions can run here."""
    return can_call()


def pack_convolutions(network: nn.Module) -> nn.Module:
    """Packs the convolutions in every ``nn.Sequential``, with the ReLUs after them; drops identities.

    A sequence of nothing else is replaced by one :class:`PackedConvolutions`, and a residual block with such a residual
    by a :class:`PackedBlock`.

    Args:
        network: in float32 on the processor, in evaluation mode, norms folded; changed in place, for inference only.

    Returns:
        The same network.
    """
    for name, child in list(network.named_children()):
        pack_convolutions(child)
        if isinstance(child, nn.Sequential):
            setattr(network, name, _packed(child))
        elif isinstance(child, BasicBlock | BottleneckBlock) and isinstance(child.residual, PackedConvolutions):
            setattr(network, name, PackedBlock(child.residual, child.shortcut))
    return network


def _packed(sequence: nn.Sequential) -> nn.Module:
    layers: list[nn.Module] = []
    open_group: list[tuple[nn.Conv2d, bool]] = []

    def close() -> None:
        if open_group:
            layers.append(PackedConvolutions(open_group))
            open_group.clear()

    for layer in sequence:
        if _fits(layer):
            open_group.append((layer, False))
        elif isinstance(layer, nn.ReLU) and open_group:
            open_group[-1] = (open_group[-1][0], True)
        elif not isinstance(layer, nn.Identity):
            close()
            layers.append(layer)
    close()
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _fits(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same"
    )


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    if x.ndim != 4 or x.dtype != torch.float32 or x.device.type != "cpu":
        got = f"{tuple(x.shape)} {x.dtype} on {x.device}"
        raise RuntimeError(f"packed convolutions need (n, c, h, w) float32 on the processor; got {got}")
    return x.contiguous(memory_format=torch.channels_last)
