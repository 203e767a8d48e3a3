"""The seam between a network of sites and the policies that choose the paths of rows through it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cascade.backends.dynamic.inputs import Inputs

__all__ = ["Choose", "PathPolicy", "PathScorer", "against_zero", "columns_of"]

Choose = Callable[[torch.Tensor], torch.Tensor]
"""From (..., A) logits to (...) int64 alternatives or (..., A) weights."""


class PathScorer(Protocol):
    """A path policy for inference, whose gates look at features; its scores are in the processor's memory."""

    def begin(self, images: Any) -> Any:
        """The state before the first site, of the input of the network."""

    def step(self, d: int, features: torch.Tensor, state: Any, changed: bool, /) -> tuple[np.ndarray, Any]:
        """Scores the alternatives of site ``d``.

        Args:
            d: from 0.
            features: (n, ...), the input of the site.
            state: returned by the step before.
            changed: whether the features differ from those of the step before.

        Returns:
            (n, A) or (n, columns, A) float32 logits, and the state for the next step.
        """


class PathPolicy(nn.Module):
    """Chooses the alternatives of every site, row by row.

    A policy gets the input of the network once (``begin``): images, and the question or the task where there is one.
    Then it gets, site by site, the features before it (``step``). A policy that decides everything at once ignores the
    features; one with a memory keeps it in the state. A path that is not scored but given overrides ``paths``.

    Attributes:
        looks_at_features: whether ``step`` needs them. If not, ``paths`` needs the input alone.
        scored: whether there are logits, so that there is something to learn and a price to take off.
    """

    looks_at_features: bool
    scored: bool = True

    def begin(self, images: Any) -> Any:
        """The state before the first site, of the input of the network (n rows)."""
        raise NotImplementedError

    def step(self, d: int, features: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Scores the alternatives of site ``d``.

        Args:
            d: from 0.
            features: (n, ...), the input of the site.
            state: returned by the step before.

        Returns:
            (n, A) or (n, columns, A) logits, and the state for the next step.
        """
        raise NotImplementedError

    def decide(
        self, d: int, features: torch.Tensor, state: Any, choose: Choose
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Scores site ``d`` and chooses there: for training, and for policies that remember what they chose.

        Args:
            d: from 0.
            features: (n, ...), the input of the site.
            state: returned by the step before.
            choose: what to take, by the logits.

        Returns:
            The logits of ``step``, what ``choose`` returned for them, and the state for the next step.
        """
        logits, state = self.step(d, features, state)
        return logits, choose(logits), state

    def whole(self, images: Any) -> torch.Tensor:
        """(n, K, A) logits of all columns, for a policy that does not look at features: those of all steps.

        Minus infinity where a column has fewer than A alternatives (:func:`columns_of`).
        """
        raise NotImplementedError

    def paths(self, inputs: Inputs, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The paths of a policy that does not look at features.

        Args:
            inputs: of the network, n rows.
            choose: from (n, K, A) logits to (n, K) alternatives.

        Returns:
            (n, K) int64, in the processor's memory.
        """
        return choose(self.whole(inputs).float().cpu().numpy())

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


def columns_of(logits: Sequence[torch.Tensor], filler: float = -math.inf) -> torch.Tensor:
    """The logits of all sites as columns.

    Args:
        logits: (n, A) or (n, columns, A) for each site, with its own A.
        filler: where a column has fewer alternatives than another.

    Returns:
        (n, K, A) with the largest A.
    """
    columns = [each if each.ndim == 3 else each[:, None] for each in logits]
    most = max(each.shape[2] for each in columns)
    return torch.cat([functional.pad(each, (0, most - each.shape[2]), value=filler) for each in columns], dim=1)
