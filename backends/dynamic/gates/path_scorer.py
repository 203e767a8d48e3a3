"""Path policies while a batch runs through a network: their scores on the processor, where paths are decided."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

__all__ = ["PathScorer", "StepScorer"]


class PathScorer(Protocol):
    """A path policy for inference, whose gates look at features."""

    def begin(self, images: torch.Tensor) -> Any:
        """The state before the first choice, of images (n, 3, h, w)."""

    def step(self, d: int, features: torch.Tensor, state: Any, changed: bool, /) -> tuple[np.ndarray, Any]:
        """Scores the alternatives of choice ``d``.

        Args:
            d: from 0.
            features: (n, c, h, w), what comes to the choice.
            state: as the step before left it.
            changed: whether these features are others than in the step before.

        Returns:
            (n, A) float32 logits, and the state for the next step.
        """


@dataclass(frozen=True)
class StepScorer:
    """The steps of a policy, brought to the processor one by one."""

    begin: Callable[[torch.Tensor], Any]
    policy_step: Callable[[int, torch.Tensor, Any], tuple[torch.Tensor, Any]]

    def step(self, d: int, features: torch.Tensor, state: Any, _changed: bool) -> tuple[np.ndarray, Any]:
        """Scores the alternatives of choice ``d``."""
        logits, state = self.policy_step(d, features, state)
        return logits.float().cpu().numpy(), state
