"""A place in a network where every row takes one of several alternatives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Choice", "SkipChoice"]


class Choice(ABC):
    """One of the layers of a :class:`~cascade.backends.dynamic.choice_network.ChoiceNetwork`.

    Alternatives are numbered by rising work; the last one is the whole layer. All of them map an input of one shape
    to an output of one shape.

    Attributes:
        alternatives: their number A, at least 2.
        channels: of the features that come to it.
    """

    alternatives: int
    channels: int

    @abstractmethod
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Computes one alternative: (n, c, h, w) -> (n, c', h', w')."""

    @abstractmethod
    def is_identity(self, alternative: int) -> bool:
        """Whether an alternative returns its input, so that there is nothing to compute."""

    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Computes all alternatives of all rows and adds them up, for training and as a reference.

        Args:
            x: (n, c, h, w).
            weights: (n, A); one-hot rows choose, and a gradient flows back to them.
        """
        scales: Sequence[torch.Tensor] = weights.to(x.dtype)[..., None, None, None].unbind(dim=1)
        total = scales[0] * self.run(0, x)
        for alternative in range(1, self.alternatives):
            total = torch.addcmul(total, scales[alternative], self.run(alternative, x))
        return total

    def route(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        """Computes of each row only its own alternative, in a way that gradients can follow.

        Where no row depends on another (batch norms with frozen statistics) this is ``blend`` with one-hot weights,
        for less work.

        Args:
            x: (n, c, h, w), n >= 1.
            path: (n,) int64, the alternative of each row.
        """
        rows = [(path == alternative).nonzero()[:, 0] for alternative in range(self.alternatives)]
        parts = [x if len(own) == len(x) else x[own] for own in rows]
        results = [self.run(alternative, part) for alternative, part in enumerate(parts) if len(part)]
        if len(results) == 1:
            return results[0]
        return torch.cat(results)[torch.cat(rows).argsort()]


class SkipChoice(Choice):
    """A residual block that may be skipped: a skipped row takes the shortcut only.

    Alternative 0 skips, alternative 1 runs the block.

    Args:
        block: with a ``residual`` that begins with a convolution, and a ``shortcut``, which is ``nn.Identity`` where
            the shape stays; no output of it is negative.
    """

    alternatives = 2

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.channels = block.residual[0].in_channels  # type: ignore[index, union-attr]

    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Computes one alternative."""
        if alternative:
            return self.block(x)  # type: ignore[no-any-return]
        if self.is_identity(0):
            return x
        return functional.relu(self.block.shortcut(x))  # type: ignore[operator]

    def is_identity(self, alternative: int) -> bool:
        """Whether an alternative returns its input."""
        return alternative == 0 and isinstance(self.block.shortcut, nn.Identity)
