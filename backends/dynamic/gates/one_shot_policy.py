"""A policy that makes all choices at once, from the image."""

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy, against_zero

__all__ = ["OneShotPolicy"]


class OneShotPolicy(PathPolicy):
    """A small network that scores all blocks from the image.

    Wu, Nagarajan, Kumar, Rennie, Davis, Grauman, Feris, "BlockDrop: Dynamic Inference Paths in Residual Networks",
    CVPR 2018, section 3.1, https://arxiv.org/abs/1711.08393

    Args:
        network: (n, 3, h, w) -> (n, D), the logit of running each block.
    """

    looks_at_features = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def begin(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D) logits."""
        logits: torch.Tensor = self.network(images)
        return logits

    @override
    def step(self, d: int, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of skipping and running block ``d``."""
        return against_zero(state[:, d]), state

    @override
    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D, 2) logits of skipping and running all blocks."""
        return against_zero(self.begin(images))
