"""Big-Little Net: wide layers at half resolution beside a few thin ones at full resolution.

Chen, Fan, Mallinar, Sercu, Feris, "Big-Little Net: An Efficient Multi-Scale Feature Representation for Visual and
Speech Recognition", ICLR 2019, https://arxiv.org/abs/1807.03848
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from cascade.backends.networks.resnet import BasicBlock

__all__ = ["BigLittle", "BigLittleStage"]


class BigLittleStage(nn.Module):
    """Two branches, whose sum passes a last block.

    Args:
        channels: of the input, of the little branch and of the sum.
        alpha: the big branch has alpha times as many channels.
        little: blocks of the little branch, at full resolution.
        big: blocks of the big branch, at half resolution, at least 1.
    """

    def __init__(self, channels: int, alpha: int, little: int, big: int) -> None:
        super().__init__()
        self.channels = channels
        wide = alpha * channels
        self.little = nn.Sequential(*(BasicBlock(channels, channels) for _ in range(little)))
        self.big = nn.Sequential(BasicBlock(channels, wide, 2), *(BasicBlock(wide, wide) for _ in range(big - 1)))
        self.narrow = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.last = BasicBlock(channels, 2 * channels, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) >= 0 with even h and w -> (n, 2c, h / 2, w / 2)."""
        big = functional.interpolate(self.narrow(self.big(x)), scale_factor=2.0)
        result: torch.Tensor = self.last(functional.relu(big + self.little(x)))
        return result

    def without_big(self, x: torch.Tensor) -> torch.Tensor:
        """The same without the big branch."""
        result: torch.Tensor = self.last(self.little(x))
        return result


class BigLittle(nn.Module):
    """A residual network for small images, whose groups at high resolution have two branches.

    As in the paper, the last group has one branch. What differs: the big branch is narrowed to the channels of the
    little one, where the paper widens the little one, so that a trained residual network can become the little branch;
    and the stem has one branch. The norm after the narrowing starts at 0: at first the network is its little branches.

    Args:
        width: channels of the stem and of the first little branch; each stage doubles them.
        alpha: factor of the channels of the big branches.
        little: blocks of each little branch.
        big: blocks of each big branch.
        tail: blocks after the last stage.
        classes: number of classes C.

    Shape:
        (n, 3, h, w) float -> (n, C) logits; h and w are multiples of 2 to the number of stages.
    """

    def __init__(
        self,
        width: int = 16,
        alpha: int = 2,
        little: Sequence[int] = (2, 1),
        big: Sequence[int] = (1, 1),
        tail: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        branches = enumerate(zip(little, big, strict=True))
        self.stages = nn.Sequential(*(BigLittleStage(width << i, alpha, few, many) for i, (few, many) in branches))
        channels = width << len(little)
        self.tail = nn.Sequential(*(BasicBlock(channels, channels) for _ in range(tail)))
        self.head = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BigLittleStage):
                nn.init.zeros_(module.narrow[1].weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the layers."""
        return self.classify(self.stages(self.stem(x)))

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """From the features of the last stage to (n, C) logits."""
        logits: torch.Tensor = self.head(self.tail(x).mean(dim=(2, 3)))
        return logits
