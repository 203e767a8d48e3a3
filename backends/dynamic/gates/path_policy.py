"""The seam between a network of choices and the gates that choose the paths of rows through it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

__all__ = ["PathPolicy", "PathScorer", "against_zero"]


class PathScorer(Protocol):
    """A path policy for inference, whose gates look at features; its scores are in the processor's memory."""

    def begin(self, images: torch.Tensor) -> Any:
        """The state before the first choice, of images (n, 3, h, w)."""

    def step(self, d: int, features: torch.Tensor, state: Any, changed: bool, /) -> tuple[np.ndarray, Any]:
        """Scores the alternatives of choice ``d``.

        Args:
            d: from 0.
            features: (n, c, h, w), the input of the choice.
            state: returned by the step before.
            changed: whether the features differ from those of the step before.

        Returns:
            (n, A) float32 logits, and the state for the next step.
        """


class PathPolicy(nn.Module):
    """Scores the alternatives of every choice, row by row.

    A policy gets the images once (``begin``), and then, choice by choice, the features before it (``step``). A policy
    that decides everything at once ignores the features; one with a memory keeps it in the state.

    Attributes:
        looks_at_features: whether ``step`` needs them. If not, ``whole`` returns all logits at once.
    """

    looks_at_features: bool

    def begin(self, images: torch.Tensor) -> Any:
        """The state before the first choice.

        Args:
            images: (n, 3, h, w), the input of the network.
        """
        raise NotImplementedError

    def step(self, d: int, features: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Scores the alternatives of choice ``d``.

        Args:
            d: from 0.
            features: (n, c, h, w), the input of the choice.
            state: returned by the step before.

        Returns:
            (n, A) logits, and the state for the next step.
        """
        raise NotImplementedError

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D, A) logits of all choices, for a policy that does not look at features: those of all steps."""
        raise NotImplementedError

    def scorer(self) -> PathScorer:
        """The policy with its present weights, for inference."""
        return _StepScorer(self.begin, self.step)


@dataclass(frozen=True)
class _StepScorer:
    """The steps of a policy; the logits of each are copied to the processor's memory."""

    begin: Callable[[torch.Tensor], Any]
    policy_step: Callable[[int, torch.Tensor, Any], tuple[torch.Tensor, Any]]

    def step(self, d: int, features: torch.Tensor, state: Any, _changed: bool) -> tuple[np.ndarray, Any]:
        logits, state = self.policy_step(d, features, state)
        return logits.float().cpu().numpy(), state


def against_zero(logit: torch.Tensor) -> torch.Tensor:
    """(...) logits of running, as the (..., 2) logits of skipping and running: their softmax is the sigmoid."""
    return torch.stack([torch.zeros_like(logit), logit], dim=-1)
