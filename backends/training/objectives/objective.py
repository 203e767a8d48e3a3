"""The interface of training objectives."""

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
        images: (n, 3, h, w), the input of the network.
        labels: (n,) int64.
        label_smoothing: in [0, 1).
    """

    images: torch.Tensor
    labels: torch.Tensor
    label_smoothing: float = 0.0


class Objective(BaseModel, ABC):
    """Computes the loss of a step. An objective has its settings, which are in the recipe, and no other state."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def prepare(self, network: nn.Module) -> None:
        """Sets the network's training mode; called before every epoch.

        Raises:
            ConfigError: the objective is not for this network.
        """
        network.train()

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        """The loss of a batch.

        Args:
            network: after ``prepare``.
            batch: n rows.
            done: finished share of the phase, in [0, 1].

        Returns:
            The scalar to minimise.
        """
