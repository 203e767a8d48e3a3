"""The seam between a network of choices and what decides on the paths of rows through it."""

from typing import Any

import torch
from torch import nn

from cascade.backends.dynamic.gates.path_scorer import PathScorer, StepScorer

__all__ = ["PathPolicy", "against_zero"]


class PathPolicy(nn.Module):
    """Scores the alternatives of every choice, row by row.

    A policy sees the images once (``begin``), and then, choice by choice, the features that come to it (``step``). One
    that decides everything at once ignores the features; one with a memory keeps it in the state.

    Attributes:
        looks_at_features: whether ``step`` needs them; if not, whole paths are known after ``begin``, and ``whole``
            tells them.
    """

    looks_at_features: bool

    def begin(self, images: torch.Tensor) -> Any:
        """The state before the first choice.

        Args:
            images: (n, 3, h, w), as the network gets them.
        """
        raise NotImplementedError

    def step(self, d: int, features: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Scores the alternatives of choice ``d``.

        Args:
            d: from 0.
            features: (n, c, h, w), what comes to the choice.
            state: as the step before left it.

        Returns:
            (n, A) logits, and the state for the next step.
        """
        raise NotImplementedError

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D, A) logits of all choices, of a policy that does not look at features: what all steps would say."""
        raise NotImplementedError

    def scorer(self) -> PathScorer:
        """The policy as it is now, for inference."""
        return StepScorer(self.begin, self.step)


def against_zero(logit: torch.Tensor) -> torch.Tensor:
    """(...) logits of running, as the (..., 2) logits of skipping and running: their softmax is the sigmoid."""
    return torch.stack([torch.zeros_like(logit), logit], dim=-1)
