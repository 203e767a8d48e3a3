"""A place in a network where every row takes one of several alternatives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from cascade.backends.dynamic.feature_rows import add_rows, put_rows, some_rows
from cascade.backends.networks.packing import PackedBlock

__all__ = ["Choice", "SkipChoice"]

DENSE_SHARE = 0.93
"""Share of the rows above which a block is computed for all of them: docs/decisions/0012-paths.md."""


class Choice(ABC):
    """One of the layers of a :class:`~cascade.backends.dynamic.choice_network.ChoiceNetwork`.

    Alternatives are numbered by rising work; the last one is the whole layer. All of them have the same input shape and
    the same output shape.

    Attributes:
        alternatives: their number A, at least 2.
        channels: of the input features.
    """

    alternatives: int
    channels: int

    @abstractmethod
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Computes one alternative: (n, c, h, w) -> (n, c', h', w')."""

    @abstractmethod
    def is_identity(self, alternative: int) -> bool:
        """Whether an alternative returns its input, without any computation."""

    def run_all(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Like ``run``, for an ``x`` dense in memory that may be overwritten and share memory with the result."""
        return x if self.is_identity(alternative) else self.run(alternative, x)

    def route(self, x: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes only each row's own alternative.

        Args:
            x: (n, c, h, w), dense in memory; may be overwritten and share memory with the result.
            rows: A int64 tensors on the device of ``x``: the rows of each alternative, every row in one of them.

        Returns:
            (n, c', h', w').
        """
        result = None
        for alternative, mine in enumerate(rows):
            if not len(mine) or self.is_identity(alternative):
                continue
            part = self.run(alternative, some_rows(x, mine))
            if result is None:
                result = x if part.shape[1:] == x.shape[1:] else part.new_empty((len(x), *part.shape[1:]))
            put_rows(result, mine, part)
        return x if result is None else result

    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Computes the weighted sum of all alternatives of all rows, for training and as a reference.

        Args:
            x: (n, c, h, w).
            weights: (n, A), such as one-hot rows; differentiable.
        """
        scales: Sequence[torch.Tensor] = weights.to(x.dtype)[..., None, None, None].unbind(dim=1)
        total = scales[0] * self.run(0, x)
        for alternative in range(1, self.alternatives):
            total = torch.addcmul(total, scales[alternative], self.run(alternative, x))
        return total

    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        """``route`` for training: differentiable, and nothing is overwritten.

        If rows do not depend on each other (batch norms with frozen statistics), this equals ``blend`` with one-hot
        weights, with less work.

        Args:
            x: (n, c, h, w), n >= 1.
            path: (n,) int64, the alternative of each row.
        """
        rows = [(path == alternative).nonzero()[:, 0] for alternative in range(self.alternatives)]
        parts = [x if len(own) == len(x) else some_rows(x, own) for own in rows]
        results = [self.run(alternative, part) for alternative, part in enumerate(parts) if len(part)]
        if len(results) == 1:
            return results[0]
        return some_rows(torch.cat(results), torch.cat(rows).argsort())


class SkipChoice(Choice):
    """A residual block that may be skipped: a skipped row passes through the shortcut only.

    Alternative 0 skips, alternative 1 runs the block.

    Args:
        block: computes the ReLU of the sum of its ``residual``, which starts with a convolution, and its ``shortcut``,
            which is ``nn.Identity`` if the shape stays the same; its input is never negative.
    """

    alternatives = 2

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self._keeps_shape = isinstance(block.shortcut, nn.Identity)
        self._packed = block if isinstance(block, PackedBlock) else None
        first = block.residual if self._packed else block.residual[0]  # type: ignore[index]
        self.channels = first.in_channels  # type: ignore[union-attr, assignment]

    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Computes one alternative."""
        if alternative:
            return self.block(x)  # type: ignore[no-any-return]
        return x if self._keeps_shape else functional.relu(self._shortcut(x))

    def is_identity(self, alternative: int) -> bool:
        """Whether an alternative returns its input."""
        return alternative == 0 and self._keeps_shape

    def run_all(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Like ``run``, but may overwrite ``x``; a packed residual is added in place."""
        if alternative and self._packed:
            return self._packed.run_some(x, range(len(x)))
        return super().run_all(alternative, x)

    def route(self, x: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Adds the residuals of the rows that run to the shortcuts of all rows, without a scatter.

        Packed convolutions run row by row, in place. Others gather the rows, or run all rows if nearly all run.
        """
        skipped, kept = rows
        if self._packed:
            return self._packed.run_some(x, kept.tolist())
        if len(kept) >= DENSE_SHARE * len(x):
            residual = self._residual(x).index_fill_(0, skipped, 0)
            return residual.add_(self._shortcut(x)).relu_()
        result = self._shortcut(x)
        return add_rows(result, kept, self._residual(some_rows(x, kept))).relu_()

    def _residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.block.residual(x)  # type: ignore[no-any-return, operator]

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        return self.block.shortcut(x)  # type: ignore[no-any-return, operator]
