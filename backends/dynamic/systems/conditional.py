"""Conditional computation: layers of unit blocks, of which every row takes any subset."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import LayerGates
from cascade.backends.dynamic.site_network import SiteNetwork
from cascade.backends.dynamic.sites import Subset

__all__ = ["Conditional", "UnitBlocks", "joined"]


class UnitBlocks(nn.Module):
    """A convolutional network whose hidden units are in blocks; a layer adds the sum of its blocks to its input.

    The stem divides the resolution by four. A block is a 3x3 and a 1x1 convolution.

    Args:
        channels: of the images.
        width: channels between layers.
        layers: their number.
        blocks: unit blocks of each layer, M.
        units: channels within a block.
        classes: number of classes C.
    """

    def __init__(self, channels: int, width: int, layers: int, blocks: int, units: int, classes: int) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for into, out in ((channels, width // 2), (width // 2, width)):
            stem += [nn.Conv2d(into, out, 3, 2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(width, units, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(units, width, 1, bias=False),
                )
                for _ in range(blocks)
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, C) logits, with all blocks: two convolutions a layer, whatever the number of blocks."""
        return self.classify(self.fused(self.stem(images)))

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """From the features of the last layer to (n, C) logits."""
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits

    def fused(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks of all layers."""
        for layer in self.layers:
            into, bias, out = joined(layer)
            x = functional.relu(x + functional.conv2d(functional.relu(functional.conv2d(x, into, bias, 1, 1)), out))
        return x


def joined(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The blocks of a layer side by side: weight and bias of the first convolution, weight of the second."""
    blocks = [cast(nn.Sequential, block) for block in cast(nn.ModuleList, layer)]
    return (
        torch.cat([cast(torch.Tensor, block[0].weight) for block in blocks]),
        torch.cat([cast(torch.Tensor, block[0].bias) for block in blocks]),
        torch.cat([cast(torch.Tensor, block[2].weight) for block in blocks], dim=1),
    )


class Conditional(DynamicNetwork):
    """Every row takes any subset of the unit blocks of each layer; a gate before each layer decides from its input.

    Bengio, Léonard, Courville, "Estimating or propagating gradients through stochastic neurons for conditional
    computation", 2013, https://arxiv.org/abs/1308.3432; Bengio, Bacon, Pineau, Precup, "Conditional Computation in
    Neural Networks for faster models", 2015, https://arxiv.org/abs/1511.06297. The papers' blocks are groups of units
    of a perceptron; here they are convolutions, whose work is large compared with that of calling them.

    Args:
        channels: of the images.
        width: channels between layers.
        layers: their number.
        blocks: unit blocks of each layer, M, at least 2.
        units: channels within a block.
        classes: number of classes C.
    """

    counts_sites = False

    def __init__(
        self,
        channels: int = 1,
        width: int = 64,
        layers: int = 1,
        blocks: int = 8,
        units: int = 64,
        classes: int = 10,
    ) -> None:
        base = UnitBlocks(channels, width, layers, blocks, units, classes)
        super().__init__(base, LayerGates([width] * layers, [blocks] * layers))

    @property
    @override
    def sites(self) -> SiteNetwork[Subset]:
        """One site for each layer, with a column for each of its blocks."""
        base = cast(UnitBlocks, self.base)
        layers = [cast(Sequence[nn.Module], layer) for layer in base.layers]
        return SiteNetwork(base.stem, tuple(Subset(layer, _same, functional.relu) for layer in layers), base.classify)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
