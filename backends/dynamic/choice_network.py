"""A network as a sequence of choices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from cascade.backends.dynamic.choice import Choice, SkipChoice

__all__ = ["ChoiceNetwork", "ResidualNetwork", "skippable"]

Layer = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ChoiceNetwork:
    """A stem, D choices and a head: a view of a network, which owns the weights.

    A row's *path* is the alternative that it takes at each choice.

    Attributes:
        stem: (n, 3, h, w) -> (n, c, h', w').
        choices: D choices, all with the same number of alternatives.
        head: (n, c'', h'', w'') -> (n, C) logits.
    """

    stem: Layer
    choices: tuple[Choice, ...]
    head: Layer

    def blend(self, images: torch.Tensor, decide: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Runs all alternatives and adds them with weights per row: for training, and as the reference for executors.

        Args:
            images: (n, 3, h, w).
            decide: from the index d of a choice and its input features to (n, A) weights.

        Returns:
            (n, C) logits.
        """
        x = self.stem(images)
        for d, choice in enumerate(self.choices):
            x = choice.blend(x, decide(d, x))
        return self.head(x)

    def follow(self, images: torch.Tensor, decide: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Runs only the alternatives on each row's path; differentiable.

        Args:
            images: (n, 3, h, w), n >= 1.
            decide: from the index d of a choice and its input features to (n,) int64 alternatives.

        Returns:
            (n, C) logits.
        """
        x = self.stem(images)
        for d, choice in enumerate(self.choices):
            x = choice.follow(x, decide(d, x))
        return self.head(x)


class ResidualNetwork(Protocol):
    """A stem, residual blocks and a head."""

    @property
    def stem(self) -> nn.Module:
        """(n, 3, h, w) -> (n, c, h', w')."""

    @property
    def blocks(self) -> nn.Sequential:
        """With a ``residual`` and a ``shortcut`` each."""

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) of the last block -> (n, C) logits."""


def skippable(network: ResidualNetwork, keep_first: bool = False) -> ChoiceNetwork:
    """A residual network whose blocks may be skipped.

    Args:
        network: owns the weights.
        keep_first: whether the first block always runs, as in SkipNet, which leaves one choice less.
    """
    blocks = list(network.blocks)
    stem: Layer = nn.Sequential(network.stem, blocks.pop(0)) if keep_first else network.stem
    return ChoiceNetwork(stem, tuple(SkipChoice(block) for block in blocks), network.classify)
