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

__all__ = ["Conditional", "UnitBlocks"]


class UnitBlocks(nn.Module):
    """A multi-layer perceptron whose hidden units are in blocks; a layer adds the sum of its blocks to its input.

    Args:
        inputs: values of a row.
        width: features between layers.
        layers: their number.
        blocks: unit blocks of each layer, M.
        units: of each block.
        classes: number of classes C.
    """

    def __init__(self, inputs: int, width: int, layers: int, blocks: int, units: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU())
        self.layers = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Linear(width, units), nn.ReLU(inplace=True), nn.Linear(units, width, bias=False))
                for _ in range(blocks)
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(n, ...) -> (n, C) logits, with all blocks: two products a layer, whatever the number of blocks."""
        x = self.stem(rows)
        for layer in self.layers:
            blocks = [cast(nn.Sequential, block) for block in cast(nn.ModuleList, layer)]
            into = torch.cat([cast(torch.Tensor, block[0].weight) for block in blocks])
            bias = torch.cat([cast(torch.Tensor, block[0].bias) for block in blocks])
            out = torch.cat([cast(torch.Tensor, block[2].weight) for block in blocks], dim=1)
            x = functional.relu(x + functional.linear(functional.relu(functional.linear(x, into, bias)), out))
        logits: torch.Tensor = self.head(x)
        return logits


class Conditional(DynamicNetwork):
    """Every row takes any subset of the unit blocks of each layer; a gate before each layer decides from its input.

    Bengio, Léonard, Courville, "Estimating or propagating gradients through stochastic neurons for conditional
    computation", 2013, https://arxiv.org/abs/1308.3432; Bengio, Bacon, Pineau, Precup, "Conditional Computation in
    Neural Networks for faster models", 2015, https://arxiv.org/abs/1511.06297

    Args:
        inputs: values of a row.
        width: features between layers.
        layers: their number.
        blocks: unit blocks of each layer, M.
        units: of each block.
        classes: number of classes C.
    """

    counts_sites = False

    def __init__(
        self,
        inputs: int = 784,
        width: int = 512,
        layers: int = 2,
        blocks: int = 8,
        units: int = 128,
        classes: int = 10,
    ) -> None:
        base = UnitBlocks(inputs, width, layers, blocks, units, classes)
        super().__init__(base, LayerGates([width] * layers, [blocks] * layers))

    @property
    @override
    def sites(self) -> SiteNetwork[Subset]:
        """One site for each layer, with a column for each of its blocks."""
        base = cast(UnitBlocks, self.base)
        layers = [cast(Sequence[nn.Module], layer) for layer in base.layers]
        return SiteNetwork(base.stem, tuple(Subset(layer, _same, functional.relu) for layer in layers), base.head)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
