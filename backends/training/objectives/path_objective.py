"""What the objectives of dynamic networks have in common."""

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
    """What a path's cost adds to the loss.

    The cost of a row is the share of the choices' work that it takes, in [0, 1]; every choice counts the same, and
    its alternatives rise evenly from 0 to the whole.

    Attributes:
        weight: of the term.
        target: the mean cost of a batch that is aimed at: the term is ``weight (mean - target)^2``. Without one the
            term is ``weight * mean``, a price.
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
    """Of each alternative that was taken: (n, D, A) log-probabilities and (n, D) int64 paths -> (n, D)."""
    return log_probabilities.gather(2, paths[..., None])[..., 0]


def path_costs(weights: torch.Tensor) -> torch.Tensor:
    """Cost of each choice of each row, as a share of all choices' work: (n, D, A) weights -> (n, D)."""
    _, depth, alternatives = weights.shape
    return weights @ _rising(depth, alternatives).to(weights.dtype)


def costs_taken(paths: torch.Tensor, alternatives: int) -> torch.Tensor:
    """The same of (n, D) int64 paths: (n, D)."""
    return _rising(paths.shape[1], alternatives)[paths]


def _rising(depth: int, alternatives: int) -> torch.Tensor:
    return torch.linspace(0, 1 / depth, alternatives)


class PathObjective(Objective):
    """An objective of a :class:`~cascade.backends.dynamic.dynamic_network.DynamicNetwork`.

    Attributes:
        freeze_norms: the statistics of the batch norms stay as they are wherever the features depend on the path:
            features of paths that are drawn are not those of the paths that will be taken.
        freeze_base: only the policy learns.
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
            f"this objective trains the paths of a DynamicNetwork, and {type(network).__name__} has none; "
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
    """Runs of each row the alternatives that are chosen, and nothing else.

    Args:
        model: its norms are frozen.
        images: (n, 3, h, w).
        state: of the policy, before the first choice.
        choose: from the (n, A) probabilities of a choice's alternatives to (n,) int64.
        first: index of the first choice that is made; earlier ones take their whole layer.
        learns: whether a gradient flows to the network; to the policy it always does.

    Returns:
        (n, C) answers, (n, D) paths, and the policy's (n, D, A) logits.
    """
    paths, scores = [], []

    def decide(d: int, x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        with torch.enable_grad():
            logits, state = model.policy.step(d, x, state)
            scores.append(logits.float())
        whole = torch.full((len(x),), logits.shape[1] - 1, dtype=torch.int64)
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
