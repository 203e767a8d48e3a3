"""Sites where every row takes exactly one of A alternatives."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.feature_rows import empty_rows, put_rows, some_rows
from cascade.backends.dynamic.site import Route, Site, counted

__all__ = ["Branch", "PickOne"]


class PickOne(Site):
    """Every row takes one alternative; a subclass computes a single one (``run``)."""

    @abstractmethod
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Computes one alternative: (n, ...) -> (n, ...)."""

    def run_all(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        """Like ``run``, for an ``x`` dense in memory that may be overwritten and share memory with the result."""
        return x if self.is_identity(alternative) else self.run(alternative, x)

    @override
    def take(self, x: torch.Tensor, route: Route) -> torch.Tensor:
        """Gathers the rows of each alternative, runs them together, and scatters them back."""
        only, rows = route.groups[0]
        return self.route(x, rows) if only is None else self.run_all(only, x)

    @override
    def take_one(self, x: torch.Tensor, path: Sequence[int]) -> torch.Tensor:
        return self.run_all(path[0], x)

    def route(self, x: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Computes only each row's own alternative.

        Args:
            x: (n, ...), dense in memory; may be overwritten and share memory with the result.
            rows: A int64 tensors on the device of ``x``: the rows of each alternative, every row in one of them.
        """
        result = None
        for alternative, mine in enumerate(rows):
            if not len(mine) or self.is_identity(alternative):
                continue
            part = self.run(alternative, some_rows(x, mine))
            if result is None:
                result = x if part.shape[1:] == x.shape[1:] else empty_rows(len(x), part)
            put_rows(result, mine, part)
        return x if result is None else result

    @override
    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        first = self.run(0, x)
        scales = [scale.view(-1, *[1] * (first.ndim - 1)) for scale in weights.to(x.dtype).unbind(dim=1)]
        total = scales[0] * first
        for alternative in range(1, self.alternatives):
            total = torch.addcmul(total, scales[alternative], self.run(alternative, x))
        return total

    @override
    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        """Equals ``blend`` with one-hot weights if rows do not depend on each other (frozen batch norms)."""
        rows = [(path == alternative).nonzero()[:, 0] for alternative in range(self.alternatives)]
        parts = [x if len(own) == len(x) else some_rows(x, own) for own in rows]
        results = [self.run(alternative, part) for alternative, part in enumerate(parts) if len(part)]
        if len(results) == 1:
            return results[0]
        return some_rows(torch.cat(results), torch.cat(rows).argsort())

    @override
    def works(self, x: torch.Tensor) -> tuple[list[list[float]], torch.Tensor]:
        measured = [counted(self.run, alternative, x) for alternative in range(self.alternatives)]
        return [[work for work, _ in measured]], measured[-1][1]


class Branch(PickOne):
    """One of A modules, such as resolutions, twins of a block, or typed modules.

    Args:
        modules: with the same output shape; ``nn.Identity`` costs nothing.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = tuple(modules)
        self.alternatives = len(self.modules)

    @override
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.modules[alternative](x)
        return result

    @override
    def is_identity(self, alternative: int) -> bool:
        return isinstance(self.modules[alternative], nn.Identity)
