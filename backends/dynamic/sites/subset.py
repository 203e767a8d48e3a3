"""A site where every row takes any subset of M members, whose results are summed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.feature_rows import add_rows, some_rows
from cascade.backends.dynamic.site import Route, Site, counted
from cascade.backends.networks.packing import PackedConvolutions

__all__ = ["Subset"]


class Subset(Site):
    """Experts, unit blocks or modalities: ``after(shared(x) + the sum of the chosen members of x)``.

    Column m of the path is 1 where the row takes member m. Members see only the rows that chose them. Packed
    convolutions add their results to the sum in place, without gathering.

    Args:
        members: M modules with the same output shape.
        shared: of every row, with the members' output shape, such as a shortcut.
        after: of every row, such as an activation; keeps the shape.
    """

    alternatives = 2

    def __init__(
        self,
        members: Sequence[nn.Module],
        shared: Callable[[torch.Tensor], torch.Tensor],
        after: Callable[[torch.Tensor], torch.Tensor] = lambda total: total,
    ) -> None:
        self.members = tuple(members)
        self.columns = len(self.members)
        self.shared = shared
        self.after = after

    @override
    def take(self, x: torch.Tensor, route: Route) -> torch.Tensor:
        result = self._own_memory(self.shared(x), x)
        for member, (only, rows) in zip(self.members, route.groups, strict=True):
            if isinstance(member, PackedConvolutions) and only != 0:
                member.add_to(result, x, range(len(x)) if only else rows[1].tolist(), relu=False)
            elif only == 1:
                result.add_(member(x))
            elif only is None:
                add_rows(result, rows[1], member(some_rows(x, rows[1])))
        return self.after(result)

    @override
    def take_one(self, x: torch.Tensor, path: Sequence[int]) -> torch.Tensor:
        result = self._own_memory(self.shared(x), x)
        for member, taken in zip(self.members, path, strict=True):
            if taken and isinstance(member, PackedConvolutions):
                member.add_to(result, x, (0,), relu=False)
            elif taken:
                result.add_(member(x))
        return self.after(result)

    @override
    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        result = self.shared(x)
        for member, taken in zip(self.members, path.unbind(dim=1), strict=True):
            rows = taken.nonzero()[:, 0]
            if len(rows):
                result = result.index_add(0, rows, member(x if len(rows) == len(x) else some_rows(x, rows)))
        return self.after(result)

    @override
    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        result = self.shared(x)
        for member, scale in zip(self.members, weights.to(x.dtype)[..., 1].unbind(dim=1), strict=True):
            part = member(x)
            result = torch.addcmul(result, scale.view(-1, *[1] * (part.ndim - 1)), part)
        return self.after(result)

    @override
    def works(self, x: torch.Tensor) -> tuple[list[list[float]], torch.Tensor]:
        common, result = counted(self._common, x)
        works = [[0.0, counted(member, x)[0]] for member in self.members]
        works[0] = [work + common for work in works[0]]  # every row pays for what is common, whatever it takes
        return works, result

    def _common(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.shared(x))

    @staticmethod
    def _own_memory(shared: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The members still read ``x``, so that the sum may not be written to it."""
        return shared.clone() if shared is x or shared.data_ptr() == x.data_ptr() else shared
