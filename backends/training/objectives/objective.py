"""What a training makes small."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

__all__ = ["Batch", "Objective"]


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of one step.

    Attributes:
        images: (n, 3, h, w), as the network gets them.
        labels: (n,) int64.
        label_smoothing: in [0, 1).
    """

    images: torch.Tensor
    labels: torch.Tensor
    label_smoothing: float = 0.0


class Objective(BaseModel, ABC):
    """Gives the loss of a step. The settings of an objective stand in the recipe; nothing else is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def prepare(self, network: nn.Module) -> None:
        """Puts the network into the mode that it is trained in; called before every epoch.

        Raises:
            ConfigError: the objective is not for this network.
        """
        network.train()

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        """The loss of a batch.

        Args:
            network: as ``prepare`` left it.
            batch: n rows.
            done: share of the phase that is over, in [0, 1].

        Returns:
            A scalar whose gradient is descended.
        """
