"""Networks in which every row takes its own path, with the policies that choose the paths."""

from typing import Literal

import torch
from torch import nn

from cascade.backends.dynamic.choice_network import ChoiceNetwork, skippable
from cascade.backends.dynamic.executor import Executor, Outcome
from cascade.backends.dynamic.gates import ConvolutionalGates, OneShotPolicy, PathPolicy, RecurrentGate
from cascade.backends.networks.resnet import CifarResNet

__all__ = ["BlockDrop", "DynamicNetwork", "SkipNet"]

INITIAL_BIAS = 2.0  # of the logits of running: a training starts with nearly the whole network


class DynamicNetwork(nn.Module):
    """A network of choices, and the policy that makes them.

    Args:
        base: the network itself; its own ``forward`` runs all of it for every row.
        policy: chooses the path of each row.
        keep_first: whether the first block always runs.

    Attributes:
        price: see :class:`~cascade.backends.dynamic.executor.Executor`.
    """

    def __init__(self, base: nn.Module, policy: PathPolicy, keep_first: bool = False) -> None:
        super().__init__()
        self.base = base
        self.policy = policy
        self.keep_first = keep_first
        self.price = 0.0

    @property
    def choices(self) -> ChoiceNetwork:
        """The base with its present weights, as a sequence of choices."""
        return skippable(self.base, self.keep_first)  # type: ignore[arg-type]

    def run(self, images: torch.Tensor) -> Outcome:
        """Runs each row of (n, 3, h, w) images along its path."""
        return Executor(self.choices, self.policy, self.price).run(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, C) logits, each row along its path; not differentiable."""
        return self.run(images).logits


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
        channels = [choice.channels for choice in skippable(base, keep_first=True).choices]
        policy = RecurrentGate(channels) if gate == "recurrent" else ConvolutionalGates(channels, gate)
        super().__init__(base, policy, keep_first=True)
