"""A residual block that may be skipped."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.feature_rows import add_rows, some_rows
from cascade.backends.dynamic.sites.pick_one import PickOne
from cascade.backends.networks.packing import PackedBlock

__all__ = ["DENSE_SHARE", "SkipSite"]

DENSE_SHARE = 0.93
"""Share of the rows above which a block is computed for all of them: docs/decisions/0012-paths.md."""


class SkipSite(PickOne):
    """A residual block that may be skipped: a skipped row passes through the shortcut only.

    Alternative 0 skips, alternative 1 runs the block.

    Args:
        block: computes the ReLU of the sum of its ``residual``, which starts with a convolution, and its ``shortcut``,
            which is ``nn.Identity`` if the shape stays the same; its input is never negative.

    Attributes:
        channels: of the input features.
    """

    alternatives = 2

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self._keeps_shape = isinstance(block.shortcut, nn.Identity)
        self._packed = block if isinstance(block, PackedBlock) else None
        first = block.residual if self._packed else block.residual[0]  # type: ignore[index]
        self.channels: int = first.in_channels  # type: ignore[union-attr, assignment]

    @override
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        if alternative:
            return self.block(x)  # type: ignore[no-any-return]
        return x if self._keeps_shape else functional.relu(self._shortcut(x))

    @override
    def is_identity(self, alternative: int) -> bool:
        return alternative == 0 and self._keeps_shape

    @override
    def run_all(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Like ``run``, but may overwrite ``x``; a packed residual is added in place."""
        if alternative and self._packed:
            return self._packed.run_some(x, range(len(x)))
        return super().run_all(alternative, x)

    @override
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
