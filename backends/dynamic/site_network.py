"""A network as a sequence of sites."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol

import torch
from torch import nn
from typing_extensions import TypeVar

from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.site import Site
from cascade.backends.dynamic.sites import SkipSite

__all__ = ["ResidualNetwork", "SiteNetwork", "SkipNetwork", "skippable"]


AnySite = TypeVar("AnySite", bound=Site, covariant=True, default=Site)


@dataclass(frozen=True)
class SiteNetwork(Generic[AnySite]):
    """A stem, D sites and a head: a view of a network, which owns the weights.

    A row's *path* is what it takes at all sites: K columns, those of the sites side by side.

    Attributes:
        stem: from the input (n rows) to the features (n, ...), in memory of their own, which sites may overwrite.
        sites: D sites, each with its own number of columns and alternatives.
        head: from the features to (n, C) logits.
    """

    stem: Callable[[Inputs], torch.Tensor]
    sites: tuple[AnySite, ...]
    head: Callable[[torch.Tensor], torch.Tensor]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(columns, alternatives) of each site."""
        return [(site.columns, site.alternatives) for site in self.sites]

    @property
    def alternatives(self) -> list[int]:
        """The number of alternatives of each of the K columns; 0 for keys."""
        return [site.alternatives for site in self.sites for _ in range(site.columns)]

    def at_sites(self, columns: torch.Tensor) -> list[torch.Tensor]:
        """Paths or weights of all columns, site by site: (n, K, ...) -> D times (n, ...) or (n, columns, ...)."""
        own = torch.split(columns, [site.columns for site in self.sites], dim=1)
        return [part[:, 0] if site.columns == 1 else part for site, part in zip(self.sites, own, strict=True)]

    def blend(self, inputs: Inputs, decide: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Runs all alternatives and adds them with weights per row: for training, and as the reference for executors.

        Args:
            inputs: n rows.
            decide: from the index d of a site and its input features to the weights, see ``Site.blend``.

        Returns:
            (n, C) logits.
        """
        x = self.stem(inputs)
        for d, site in enumerate(self.sites):
            x = site.blend(x, decide(d, x))
        return self.head(x)

    def follow(self, inputs: Inputs, decide: Callable[[int, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Runs only the alternatives on each row's path; differentiable.

        Args:
            inputs: n rows, n >= 1.
            decide: from the index d of a site and its input features to the path there, see ``Site.follow``.

        Returns:
            (n, C) logits.
        """
        x = self.stem(inputs)
        for d, site in enumerate(self.sites):
            x = site.follow(x, decide(d, x))
        return self.head(x)


SkipNetwork = SiteNetwork[SkipSite]
"""A residual network whose blocks may be skipped."""


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


def skippable(network: ResidualNetwork, keep_first: bool = False) -> SkipNetwork:
    """A residual network whose blocks may be skipped.

    Args:
        network: owns the weights.
        keep_first: whether the first block always runs, as in SkipNet, which leaves one site less.
    """
    blocks = list(network.blocks)
    stem = nn.Sequential(network.stem, blocks.pop(0)) if keep_first else network.stem
    return SiteNetwork(stem, tuple(SkipSite(block) for block in blocks), network.classify)
