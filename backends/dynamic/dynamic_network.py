"""Networks in which every row takes its own path, with the policies that choose the paths."""

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from cascade.backends.dynamic.executor import Executor, Outcome, even_works
from cascade.backends.dynamic.gates import ConvolutionalGates, OneShotPolicy, PathPolicy, RecurrentGate
from cascade.backends.dynamic.inputs import Inputs, first_row, input_shapes, moved, row_count
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SiteNetwork, skippable
from cascade.backends.dynamic.sites import SkipSite
from cascade.backends.networks.resnet import CifarResNet

__all__ = ["BlockDrop", "DynamicNetwork", "SkipNet"]

INITIAL_BIAS = 2.0  # of the logits of running: a training starts with nearly the whole network


class DynamicNetwork(nn.Module):
    """A network of sites, and the policy that chooses the paths.

    A subclass of another kind than a residual network defines ``sites``.

    Args:
        base: the network itself, which owns the weights.
        policy: chooses the path of each row.
        keep_first: whether the first block of a residual network always runs.

    Attributes:
        price: see :class:`~cascade.backends.dynamic.executor.Executor`.
        counts_sites: whether all sites count the same in costs and prices, as in papers that count blocks; otherwise
            they count by their measured operations.
    """

    counts_sites = True

    def __init__(self, base: nn.Module, policy: PathPolicy, keep_first: bool = False) -> None:
        super().__init__()
        self.base = base
        self.policy = policy
        self.keep_first = keep_first
        self.price = 0.0
        self._works: dict[tuple[object, ...], np.ndarray] = {}

    @property
    def sites(self) -> SiteNetwork[Any]:
        """The base with its present weights, as a sequence of sites."""
        return skippable(self.base, self.keep_first)  # type: ignore[arg-type]

    def works(self, inputs: Inputs) -> np.ndarray:
        """(K, A) relative works of the alternatives, for inputs of this shape; counted once."""
        key = () if self.counts_sites else input_shapes(inputs)
        if key not in self._works:
            if self.counts_sites:
                self._works[key] = even_works(self.sites.alternatives)
            else:
                blueprint = copy.deepcopy(self).to("meta").eval()
                row = moved(first_row(inputs), "meta")
                self._works[key] = PathCosts.count(blueprint.sites, blueprint.policy, row).relative
        return self._works[key]

    def run(self, inputs: Inputs) -> Outcome:
        """Runs each row along its path."""
        works = self.works(inputs) if self.price and row_count(inputs) else None
        return Executor(self.sites, self.policy, self.price).run(inputs, works)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """(n, C) logits, each row along its path; in training mode they are differentiable with respect to the base."""
        return self._follow(inputs) if self.training else self.run(inputs).logits

    def _follow(self, inputs: Inputs) -> torch.Tensor:
        network, policy = self.sites, self.policy
        if not policy.scored:
            given = torch.from_numpy(policy.paths(inputs, lambda logits: logits.argmax(axis=-1)))
            columns = network.at_sites(given)
            return network.follow(inputs, lambda d, x: columns[d].to(x.device))
        state = policy.begin(inputs)

        def decide(d: int, x: torch.Tensor) -> torch.Tensor:
            nonlocal state
            _, path, state = policy.decide(d, x, state, lambda logits: logits.argmax(dim=-1))
            return path

        return network.follow(inputs, decide)


class BlockDrop(DynamicNetwork):
    """A residual network, and a small policy network that chooses the blocks of each image.

    Wu, Nagarajan, Kumar, Rennie, Davis, Grauman, Feris, "BlockDrop: Dynamic Inference Paths in Residual Networks",
    CVPR 2018, https://arxiv.org/abs/1711.08393

    Args:
        depth: of the residual network, 6n + 2; it has 3n blocks.
        width: of the residual network.
        policy_depth: of the policy network, 8 in the paper.
        policy_width: channels of its first group, 16 in the paper.
        policy_stem_stride: of its first convolution, 1 in the paper; 2 divides its operations by four.
        classes: number of classes C.
    """

    def __init__(
        self,
        depth: int = 32,
        width: int = 16,
        policy_depth: int = 8,
        policy_width: int = 16,
        policy_stem_stride: int = 1,
        classes: int = 10,
    ) -> None:
        base = CifarResNet(depth, width, classes=classes)
        policy = CifarResNet(policy_depth, policy_width, policy_stem_stride, classes=len(base.blocks))
        nn.init.constant_(policy.head.bias, INITIAL_BIAS)
        super().__init__(base, OneShotPolicy(policy))


class SkipNet(DynamicNetwork):
    """A residual network with a gate before every block but the first.

    Wang, Yu, Dou, Darrell, Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV 2018,
    https://arxiv.org/abs/1711.09485

    Args:
        depth: of the residual network, 6n + 2; it has 3n blocks.
        width: of the residual network.
        gate: "recurrent" (one gate for all blocks), or one convolutional gate per block, of kind "I" or "II".
        classes: number of classes C.
    """

    def __init__(
        self,
        depth: int = 32,
        width: int = 16,
        gate: Literal["recurrent", "I", "II"] = "recurrent",
        classes: int = 10,
    ) -> None:
        base = CifarResNet(depth, width, classes=classes)
        channels = [site.channels for site in skippable(base, keep_first=True).sites if isinstance(site, SkipSite)]
        policy = RecurrentGate(channels) if gate == "recurrent" else ConvolutionalGates(channels, gate)
        super().__init__(base, policy, keep_first=True)
