"""Common parts of the objectives of dynamic networks."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.training.objectives.objective import Objective
from cascade.backends.training.schedule import Schedule, Scheduled
from cascade.errors import ConfigError

__all__ = [
    "CostTerm",
    "PathObjective",
    "best_alternatives",
    "costs_taken",
    "dynamic",
    "path_costs",
    "taken_log_probabilities",
    "walk",
]


class CostTerm(BaseModel):
    """The cost of paths as a term of the loss.

    The cost of a row is its share of the choices' work, in [0, 1]; all choices count the same, and the costs of their
    alternatives rise evenly from 0 to the whole.

    Attributes:
        weight: of the term.
        target: target of the mean cost of a batch; the term is ``weight (mean - target)^2``. Without a target it is
            ``weight * mean``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Scheduled = Schedule(start=0.1, end=0.1)
    target: Scheduled | None = None

    def of(self, costs: torch.Tensor, done: float) -> torch.Tensor:
        """The term of a batch: (n,) costs of its rows -> scalar."""
        mean = costs.mean()
        excess = mean if self.target is None else (mean - self.target.at(done)) ** 2
        return self.weight.at(done) * excess


def taken_log_probabilities(log_probabilities: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the chosen alternatives: (n, D, A) and (n, D) int64 paths -> (n, D)."""
    return log_probabilities.gather(2, paths[..., None])[..., 0]


def path_costs(weights: torch.Tensor) -> torch.Tensor:
    """Cost of each choice per row, as a share of all choices' work: (n, D, A) weights -> (n, D)."""
    _, depth, alternatives = weights.shape
    return weights @ _rising(depth, alternatives, weights.device).to(weights.dtype)


def costs_taken(paths: torch.Tensor, alternatives: int) -> torch.Tensor:
    """Cost of each choice per row, as a share of all choices' work: (n, D) int64 paths -> (n, D)."""
    return _rising(paths.shape[1], alternatives, paths.device)[paths]


def _rising(depth: int, alternatives: int, device: torch.device) -> torch.Tensor:
    return torch.linspace(0, 1 / depth, alternatives, device=device)


class PathObjective(Objective):
    """An objective of a :class:`~cascade.backends.dynamic.dynamic_network.DynamicNetwork`.

    Attributes:
        freeze_norms: whether to freeze the statistics of batch norms whose input depends on the path, since features on
            sampled paths differ from those on the paths at inference.
        freeze_base: whether only the policy learns.
    """

    freeze_norms: bool = True
    freeze_base: bool = False

    @override
    def prepare(self, network: nn.Module) -> None:
        network = dynamic(network)
        network.train()
        network.base.requires_grad_(not self.freeze_base)
        network.base.train(not self.freeze_base)
        if self.freeze_norms:
            _freeze_norms(network.base)
            if network.policy.looks_at_features:
                _freeze_norms(network.policy)


def dynamic(network: nn.Module) -> DynamicNetwork:
    """The network, if it is a dynamic one.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(network, DynamicNetwork):
        raise ConfigError(
            f"this objective trains the paths of a DynamicNetwork; {type(network).__name__} is none, "
            "use kind: cross_entropy"
        )
    return network


def walk(
    model: DynamicNetwork,
    images: torch.Tensor,
    state: Any,
    choose: Callable[[torch.Tensor], torch.Tensor],
    first: int,
    learns: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Runs only the chosen alternatives of each row.

    Args:
        model: with frozen norms.
        images: (n, 3, h, w).
        state: of the policy, before the first choice.
        choose: from the (n, A) probabilities of a choice's alternatives to (n,) int64.
        first: index of the first choice that is made; earlier layers run as a whole.
        learns: whether to compute gradients for the network; for the policy they are always computed.

    Returns:
        (n, C) logits, (n, D) paths, and the policy's (n, D, A) logits.
    """
    paths, scores = [], []

    def decide(d: int, x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        with torch.enable_grad():
            logits, state = model.policy.step(d, x, state)
            scores.append(logits.float())
        whole = torch.full((len(x),), logits.shape[1] - 1, dtype=torch.int64, device=x.device)
        paths.append(choose(scores[-1].detach().softmax(dim=1)) if d >= first else whole)
        return paths[-1]

    with torch.set_grad_enabled(learns):
        answers = model.choices.follow(images, decide)
    return answers, torch.stack(paths, dim=1), torch.stack(scores, dim=1)


def best_alternatives(probabilities: torch.Tensor) -> torch.Tensor:
    """(n, A) -> (n,) int64."""
    return probabilities.argmax(dim=1)


def _freeze_norms(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
