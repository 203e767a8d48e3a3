"""Residual networks for small images.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
https://arxiv.org/abs/1512.03385
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["BasicBlock", "CifarResNet", "new_shortcut"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is a 1x1 convolution if the shape changes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = new_shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        return functional.relu(self.residual(x) + self.shortcut(x), inplace=True)


def new_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of a block: the identity, or a 1x1 convolution if the shape changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class CifarResNet(nn.Module):
    """ResNet with 6n + 2 layers: a stem, three groups of n basic blocks, average pooling, one linear layer.

    Args:
        depth: number of layers, 6n + 2 (8, 14, 20, 32, 110, ...).
        width: channels of the first group; the other two have twice and four times as many.
        stem_stride: stride of the first convolution; 2 divides the operations of the network by four.
        classes: number of classes C.

    Shape:
        (n, 3, h, w) float -> (n, C) logits.

    Raises:
        ValueError: ``depth`` is not 6n + 2 with n >= 1.
    """

    def __init__(self, depth: int = 32, width: int = 16, stem_stride: int = 1, classes: int = 10) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 2 with n >= 1 (8, 14, 20, 32, ...); got {depth}")
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        layers: list[nn.Module] = []
        in_channels = width
        for group in range(3):
            for block in range(blocks):
                stride = 2 if group and not block else 1
                layers.append(BasicBlock(in_channels, width << group, stride))
                in_channels = width << group
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(in_channels, classes)
        self._initialise()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        return self.classify(self.blocks(self.stem(x)))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) features of the last block -> (n, C) logits."""
        logits: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return logits

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
