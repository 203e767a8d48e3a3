"""A network made of choices."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from cascade.backends.dynamic.choice import Choice, SkipChoice
from cascade.backends.networks.resnet import CifarResNet

__all__ = ["ChoiceNetwork", "SkippableResNet"]

Decide = Callable[[int, torch.Tensor], torch.Tensor]


class ChoiceNetwork(nn.Module):
    """A stem, D choices and a head.

    Called like any network it takes every choice's last alternative. A row's *path* is the alternative that it takes
    at each choice.

    Args:
        stem: (n, 3, h, w) -> (n, c, h', w').
        choices: D of them.
        head: (n, c'', h'', w'') -> (n, C) logits.
    """

    def __init__(self, stem: nn.Module, choices: Iterable[Choice], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.choices = nn.ModuleList(choices)
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs the whole network: (n, 3, h, w) -> (n, C) logits."""
        x = self.stem(x)
        for choice in self.choices:
            x = choice(x)
        logits: torch.Tensor = self.head(x)
        return logits

    def blend(self, x: torch.Tensor, decide: Decide) -> torch.Tensor:
        """Runs all alternatives, each row's weighted: for training, and as the reference for what an executor skips.

        Args:
            x: (n, 3, h, w).
            decide: from the index d of a choice and the features that come to it, to (n, A) weights.

        Returns:
            (n, C) logits.
        """
        x = self.stem(x)
        for d, choice in enumerate(self.choices):
            x = choice.blend(x, decide(d, x))  # type: ignore[operator]
        logits: torch.Tensor = self.head(x)
        return logits


class SkippableResNet(ChoiceNetwork):
    """A residual network whose blocks are choices.

    Args:
        depth: as of :class:`~cascade.backends.networks.resnet.CifarResNet`.
        width: as there.
        classes: C.
        keep_first: the first block always runs, as in SkipNet; its choices are then one fewer than its blocks.
    """

    def __init__(self, depth: int = 32, width: int = 16, classes: int = 10, keep_first: bool = False) -> None:
        network = CifarResNet(depth, width, classes=classes)
        blocks = list(network.blocks)
        stem: nn.Module = nn.Sequential(network.stem, blocks.pop(0)) if keep_first else network.stem
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.head)
        super().__init__(stem, (SkipChoice(block) for block in blocks), head)
