"""A place in a network where every row takes alternatives: the one interface of all decisions inside networks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Group", "Route", "Site", "counted", "routes"]

_Result = TypeVar("_Result")
Group = tuple[int | None, Sequence[torch.Tensor]]
"""The alternative that all rows take; or ``None`` and the rows of each alternative, int64 on the device."""


@dataclass(frozen=True, eq=False)
class Route:
    """What the rows of a batch take at one site.

    Attributes:
        path: (n, columns) int64, in the processor's memory.
        groups: the rows of each alternative, column by column; empty for columns without a fixed number of them.
    """

    path: np.ndarray
    groups: Sequence[Group]

    @classmethod
    def of(cls, path: np.ndarray, alternatives: int, device: torch.device) -> "Route":
        """The route of one site.

        Args:
            path: (n, columns) int64, n >= 1.
            alternatives: of each column; 0 if their number is not fixed.
            device: of the groups.
        """
        return next(routes(path, [(path.shape[1], alternatives)], device))


class Site(ABC):
    """A place where rows take alternatives, with its own number of them and its own work.

    A row's *path* has ``columns`` integers here. What they mean is the kind of the site:

    - *pick one* of A (:class:`~cascade.backends.dynamic.sites.pick_one.PickOne`): one column, 0 to A - 1;
    - *any subset* of M, results summed (:class:`~cascade.backends.dynamic.sites.subset.Subset`): M columns of 0 or 1;
    - *keyed* (:class:`~cascade.backends.dynamic.sites.keyed.Keyed`): one column of keys, any int64;
    - *parts* (:class:`~cascade.backends.dynamic.sites.parts.Parts`): the columns of another site, for each of T parts.

    Alternatives are numbered by rising work, as far as there is an order; the last one is the default. Features ``x``
    are (n, ...) of any rank; all alternatives of a site have the same output shape.

    A site has the same result in three forms. ``take`` is the fast one, which computes only what the rows chose,
    grouped by alternative. ``follow`` does the same with gradients. ``blend`` computes everything, weighted: for
    training by softmax weights, and as the reference in tests.

    In ``follow``, ``blend`` and the policies, a site of one column has no axis of columns: paths are (n,), weights and
    logits (n, A). Other sites have (n, columns) and (n, columns, A).

    Attributes:
        columns: of the path that belong to the site.
        alternatives: their number A in each column, at least 2; 0 if it is not fixed (keyed).
    """

    columns: int = 1
    alternatives: int

    @abstractmethod
    def take(self, x: torch.Tensor, route: Route) -> torch.Tensor:
        """Computes what each row chose, without gradients.

        Args:
            x: (n, ...), n >= 1, dense in memory; may be overwritten and share memory with the result.
            route: of the n rows.
        """

    def take_one(self, x: torch.Tensor, path: Sequence[int]) -> torch.Tensor:
        """Like ``take``, for a single row: (1, ...) and its ``columns`` alternatives."""
        return self.take(x, Route.of(np.array([path]), self.alternatives, x.device))

    @abstractmethod
    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        """Computes what each row chose; differentiable, and nothing is overwritten.

        Args:
            x: (n, ...), n >= 1.
            path: (n,) or (n, columns) int64.
        """

    @abstractmethod
    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Computes all alternatives of all rows, weighted.

        Args:
            x: (n, ...).
            weights: (n, A) or (n, columns, A), such as one-hot rows; differentiable.
        """

    @abstractmethod
    def works(self, x: torch.Tensor) -> tuple[list[list[float]], torch.Tensor]:
        """Measures the work of each alternative.

        Args:
            x: (1, ...), on any device, "meta" included.

        Returns:
            (columns, A) floating-point operations, (columns, 1) for keyed ones; and the features after the site.
        """

    def is_identity(self, alternative: int) -> bool:  # noqa: ARG002 (for subclasses)
        """Whether an alternative, in a site of one column, returns its input without any computation."""
        return False


def routes(path: np.ndarray, sizes: Sequence[tuple[int, int]], device: torch.device) -> Iterator[Route]:
    """The routes of consecutive sites; the indices of all of them are copied to the device at once.

    Args:
        path: (n, K) int64, n >= 1, the columns of all sites side by side.
        sizes: (columns, alternatives) of each site.
        device: of the groups.
    """
    most = max((alternatives for _, alternatives in sizes), default=0)
    counts = (
        np.stack([(path == alternative).sum(axis=0) for alternative in range(most)], axis=1).tolist() if most else []
    )
    order = torch.from_numpy(np.argsort(path.T, axis=1, kind="stable")).to(device).unbind(0) if most else ()
    start = 0
    for columns, alternatives in sizes:
        own = range(start, start + columns) if alternatives else ()
        groups = [_group(counts[k][:alternatives], order[k], len(path)) for k in own]
        yield Route(path[:, start : start + columns], groups)
        start += columns


def _group(counts: list[int], order: torch.Tensor, rows: int) -> Group:
    return (counts.index(rows), ()) if rows in counts else (None, order.split_with_sizes(counts))


def counted(function: Callable[..., _Result], *arguments: object) -> tuple[float, _Result]:
    """The floating-point operations of a call, and its result."""
    with FlopCounterMode(display=False) as counter:
        result = function(*arguments)
    return float(counter.get_total_flops()), result
