"""What the objectives of dynamic networks have in common."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.training.objectives.objective import Objective
from cascade.backends.training.schedule import Schedule, Scheduled
from cascade.errors import ConfigError

__all__ = ["CostTerm", "PathObjective", "costs_taken", "dynamic", "path_costs", "taken_log_probabilities"]


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


def _freeze_norms(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
