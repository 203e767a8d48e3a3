"""One small convolutional gate per block."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy, against_zero

__all__ = ["ConvolutionalGates"]


class ConvolutionalGates(PathPolicy):
    """Every block has its own gate, which decides from the block's input alone.

    Wang, Yu, Dou, Darrell, Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV 2018,
    section 3.1 (FFGate-I and FFGate-II), https://arxiv.org/abs/1711.09485

    Args:
        channels: (D,) channels of the input of each choice.
        kind: "I" has a pooling and two convolutions (for networks of up to 100 layers); "II" has one convolution (for
            deeper ones).
        initial_bias: of the outputs; above 0, blocks run at the start of a training.
    """

    looks_at_features = True

    def __init__(self, channels: Sequence[int], kind: Literal["I", "II"] = "I", initial_bias: float = 2.0) -> None:
        super().__init__()
        self.gates = nn.ModuleList(_gate(c, kind, initial_bias) for c in channels)

    def begin(self, images: torch.Tensor) -> None:
        """No state: these gates have no memory."""

    @override
    def step(self, d: int, features: torch.Tensor, state: None) -> tuple[torch.Tensor, None]:
        """Logits of skipping and running block ``d``."""
        return against_zero(self.gates[d](features)[:, 0]), None


def _gate(channels: int, kind: Literal["I", "II"], initial_bias: float) -> nn.Sequential:
    def convolution(stride: int) -> list[nn.Module]:
        layer = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        return [layer, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]

    first = [nn.MaxPool2d(2), *convolution(1)] if kind == "I" else []
    output = nn.Linear(channels, 1)
    nn.init.constant_(output.bias, initial_bias)
    return nn.Sequential(*first, *convolution(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), output)
