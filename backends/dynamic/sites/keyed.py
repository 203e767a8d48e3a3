"""A site whose alternatives have no fixed number: generated for a key, once."""

from collections.abc import Callable

import numpy as np
import torch
from typing_extensions import override

from cascade.backends.dynamic.feature_rows import put_rows, some_rows
from cascade.backends.dynamic.site import Route, Site, counted

__all__ = ["Keyed"]

Layer = Callable[[torch.Tensor], torch.Tensor]


class Keyed(Site):
    """Every row goes through the layer of its key, such as a head generated from a task's embedding.

    Outside training a layer is generated once for each distinct key, and cached. The work counted is that of a layer,
    without its generation.

    Args:
        generate: from a key to its layer; differentiable.
        cached: maximum number of cached layers; the oldest is dropped.
        example: a valid key, whose layer is measured.
    """

    alternatives = 0

    def __init__(self, generate: Callable[[int], Layer], cached: int = 1024, example: int = 0) -> None:
        self.generate = generate
        self.cached = cached
        self.example = example
        self._layers: dict[int, Layer] = {}

    @override
    def take(self, x: torch.Tensor, route: Route) -> torch.Tensor:
        keys = route.path[:, 0]
        distinct = np.unique(keys).tolist() or [self.example]
        if len(distinct) == 1:
            return self._layer(distinct[0])(x)
        result: torch.Tensor | None = None
        for key in distinct:
            rows = np.flatnonzero(keys == key)
            mine = torch.from_numpy(rows).to(x.device)
            part = self._layer(key)(some_rows(x, mine))
            result = part.new_empty((len(x), *part.shape[1:])) if result is None else result
            put_rows(result, mine, part)
        return x if result is None else result

    @override
    def follow(self, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
        distinct = sorted(set(path.tolist()))
        rows = [(path == key).nonzero()[:, 0] for key in distinct]
        parts = [self.generate(key)(some_rows(x, own)) for key, own in zip(distinct, rows, strict=True)]
        return some_rows(torch.cat(parts), torch.cat(rows).argsort())

    @override
    def blend(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Not possible: there is no list of all alternatives.

        Raises:
            NotImplementedError: always; a keyed site is trained by ``follow``.
        """
        raise NotImplementedError("a keyed site has no list of alternatives to blend; train it along given paths")

    @override
    def works(self, x: torch.Tensor) -> tuple[list[list[float]], torch.Tensor]:
        work, result = counted(self.generate(self.example), x)
        return [[work]], result

    def _layer(self, key: int) -> Layer:
        if key not in self._layers:
            while len(self._layers) >= self.cached:
                self._layers.pop(next(iter(self._layers)), None)
            self._layers[key] = self.generate(key)
        return self._layers[key]
