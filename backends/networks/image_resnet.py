"""Residual networks for images of about 224 x 224 pixels.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1,
https://arxiv.org/abs/1512.03385
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from cascade.backends.networks.resnet import BasicBlock, new_shortcut

__all__ = ["BottleneckBlock", "ImageResNet"]

EXPANSION = 4
WIDTHS = (64, 128, 256, 512)
BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut; the shortcut is a 1x1 convolution if the shape changes.

    The stride is that of the 3x3 convolution, as in Goyal et al., https://arxiv.org/abs/1706.02677, section 5.1.

    Args:
        in_channels: channels of the input.
        width: channels between the convolutions; the output has four times as many.
        stride: stride of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = new_shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        return functional.relu(self.residual(x) + self.shortcut(x), inplace=True)


class ImageResNet(nn.Module):
    """ResNet with a 7x7 stem, four groups of blocks, average pooling, one linear layer.

    Args:
        depth: number of layers: 10, 18, 34 (basic blocks), 50, 101, 152 (bottleneck blocks).
        classes: number of classes C.
        shrink: factor of the average pooling before the first layer, such as 2 in BlockDrop's policy.

    Shape:
        (n, 3, h, w) float -> (n, C) logits.

    Raises:
        ValueError: the depth is none of these.
    """

    def __init__(self, depth: int = 50, classes: int = 1000, shrink: int = 1) -> None:
        super().__init__()
        if depth not in BASIC | BOTTLENECK:
            raise ValueError(f"depth must be one of {sorted(BASIC | BOTTLENECK)}; got {depth}")
        self.stem = nn.Sequential(
            *([nn.AvgPool2d(shrink)] if shrink > 1 else []),
            nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        block: Callable[[int, int, int], nn.Module] = BasicBlock if depth in BASIC else BottleneckBlock
        expansion = 1 if depth in BASIC else EXPANSION
        layers: list[nn.Module] = []
        in_channels = WIDTHS[0]
        for group, (width, repeats) in enumerate(zip(WIDTHS, (BASIC | BOTTLENECK)[depth], strict=True)):
            for repeat in range(repeats):
                layers.append(block(in_channels, width, 2 if group and not repeat else 1))
                in_channels = width * expansion
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(in_channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        return self.classify(self.blocks(self.stem(x)))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) features of the last block -> (n, C) logits."""
        logits: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return logits
