"""A site for the parts of a row: frames of a clip, segments of a recording, windows of an image."""

from collections.abc import Callable

import torch
from typing_extensions import override

from cascade.backends.dynamic.site import Route, Site

__all__ = ["Parts"]

Reduce = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Parts(Site):
    """Another site, for each of T parts: all n T parts pass it together, then they are reduced per row.

    The path has the T columns groups of the inner site side by side, part by part.

    Args:
        inner: the site of a part.
        parts: their number T; features are (n, T, ...).
        reduce: from the parts' results (n, T, ...) and the path (n, T, columns of a part) to the features of the rows
            (n, ...); for weights (training), the path is the alternative of the largest weight.
    """

    def __init__(self, inner: Site, parts: int, reduce: Reduce = lambda results, _: results.mean(dim=1)) -> None:
        self.inner = inner
        self.parts = parts
        self.reduce = reduce
        self.columns = parts * inner.columns
        self.alternatives = inner.alternatives

    @override
    def take(self, x: torch.Tensor, route: Route) -> torch.Tensor:
        own = route.path.reshape(-1, self.inner.columns)
        result = self.inner.take(x.flatten(0, 1), Route.of(own, self.alternatives, x.device))
        return self._reduced(result, torch.from_numpy(own).to(x.device))

    @override
    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        own = path.reshape(-1, self.inner.columns)
        result = self.inner.follow(x.flatten(0, 1), own if self.inner.columns > 1 else own[:, 0])
        return self._reduced(result, own)

    @override
    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        own = weights.reshape(-1, self.inner.columns, self.alternatives)
        result = self.inner.blend(x.flatten(0, 1), own if self.inner.columns > 1 else own[:, 0])
        return self._reduced(result, own.argmax(dim=2))

    @override
    def works(self, x: torch.Tensor) -> tuple[list[list[float]], torch.Tensor]:
        works, result = self.inner.works(x[:, 0])
        results = result[:, None].expand(-1, self.parts, *result.shape[1:])
        path = torch.zeros(1, self.parts, self.inner.columns, dtype=torch.int64, device=x.device)
        return works * self.parts, self.reduce(results, path)

    def _reduced(self, results: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        rows = len(results) // self.parts
        shape = (rows, self.parts)
        return self.reduce(results.reshape(*shape, *results.shape[1:]), path.reshape(*shape, path.shape[1]))
