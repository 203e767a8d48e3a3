"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation and with ReLU6, for processors and phones.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946; the Lite variants: https://github.com/tensorflow/tpu (models/official/efficientnet)
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["EfficientNetLite", "InvertedResidual"]

# (expansion, output channels, blocks, stride of the first block, kernel) of each group: Table 1 of the paper.
GROUPS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
NORM = (1e-3, 0.01)  # epsilon and momentum


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    norm: tuple[float, float] = NORM,
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, *norm),
    ]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut if the shape stays the same.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expansion: factor of the inner channels; 1 leaves the expansion out.
        kernel: side of the depthwise kernel.
        stride: stride of the depthwise convolution.
        norm: epsilon and momentum of the batch norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel: int,
        stride: int,
        norm: tuple[float, float] = NORM,
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_convolution(in_channels, inner, norm=norm), nn.ReLU6(inplace=True)]
        layers += [*_convolution(inner, inner, kernel, stride, inner, norm), nn.ReLU6(inplace=True)]
        layers += _convolution(inner, out_channels, norm=norm)
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 on images scaled up to a working resolution inside the network.

    A subclass has other groups of blocks, and other options of its batch norms.

    Args:
        resolution: side in pixels to which the images are scaled (bilinear) before the first layer.
        classes: number of classes C.
        dropout: share of the features dropped before the last layer while training.
        flip: whether to average the logits of the image and of its mirror image at inference, which doubles the work.

    Shape:
        (n, 3, h, w) float -> (n, C) logits.
    """

    groups: Sequence[tuple[int, int, int, int, int]] = GROUPS
    norm: tuple[float, float] = NORM

    def __init__(self, resolution: int = 224, classes: int = 10, dropout: float = 0.2, flip: bool = False) -> None:
        super().__init__()
        self.resolution = resolution
        self.flip = flip
        self.stem = nn.Sequential(*_convolution(3, STEM_CHANNELS, 3, 2, norm=self.norm), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        in_channels = STEM_CHANNELS
        for expansion, out_channels, repeats, stride, kernel in self.groups:
            for repeat in range(repeats):
                own = 1 if repeat else stride
                blocks.append(InvertedResidual(in_channels, out_channels, expansion, kernel, own, self.norm))
                in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.features = nn.Sequential(*_convolution(in_channels, HEAD_CHANNELS, norm=self.norm), nn.ReLU6(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        if not self.flip or self.training:
            return self._logits(x)
        return (self._logits(x) + self._logits(x.flip(3))) / 2

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != self.resolution:
            x = functional.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", antialias=False)
        features: torch.Tensor = self.features(self.blocks(self.stem(x)))
        logits: torch.Tensor = self.head(self.dropout(features.mean(dim=(2, 3))))
        return logits
