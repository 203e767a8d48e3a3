"""Common parts of the objectives of dynamic networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.dynamic_network import DynamicNetwork
from cascade.backends.dynamic.gates import columns_of
from cascade.backends.training.objectives.objective import Objective
from cascade.backends.training.schedule import Schedule, Scheduled
from cascade.errors import ConfigError

__all__ = [
    "CostTerm",
    "PathObjective",
    "best_alternatives",
    "costs_taken",
    "drawn",
    "dynamic",
    "path_costs",
    "taken_log_probabilities",
    "walk",
    "work_shares",
]


class CostTerm(BaseModel):
    """The cost of paths as a term of the loss.

    The cost of a row is its share of the work that the sites may save, in [0, 1]: ``DynamicNetwork.works``. In a
    network that counts its sites, all count the same; in others by their measured operations.

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
    """Log-probabilities of the chosen alternatives: (n, K, A) and (n, K) int64 paths -> (n, K)."""
    return log_probabilities.gather(2, paths[..., None])[..., 0]


def path_costs(weights: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Cost of each column per row, as a share of all work: (n, K, A) weights, (K, A) shares -> (n, K)."""
    return (weights * shares.to(weights.dtype)).sum(dim=2)


def costs_taken(paths: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Cost of each column per row, as a share of all work: (n, K) int64 paths, (K, A) shares -> (n, K)."""
    return shares.gather(1, paths.T).T


def work_shares(works: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """(K, A) relative works as shares of the most expensive path's, float32."""
    return torch.from_numpy(works / works.max(axis=1).sum()).float().to(device)


def drawn(probabilities: torch.Tensor) -> torch.Tensor:
    """Sampled alternatives: (..., A) -> (...) int64."""
    rows = probabilities.flatten(0, -2)
    return rows.multinomial(1)[:, 0].view(probabilities.shape[:-1])


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
    if not network.policy.scored:
        raise ConfigError(f"the paths of {type(network).__name__} are given, not learned; use kind: cross_entropy")
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
        state: of the policy, before the first site.
        choose: from the (..., A) probabilities of a site's alternatives to (...) int64.
        first: index of the first site at which the policy decides; earlier sites take their last alternative.
        learns: whether to compute gradients for the network; for the policy they are always computed.

    Returns:
        (n, C) logits, (n, K) paths, and the policy's (n, K, A) logits.
    """
    paths, scores = [], []

    def own(logits: torch.Tensor) -> torch.Tensor:
        return choose(logits.detach().float().softmax(dim=-1))

    def decide(d: int, x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        with torch.enable_grad():
            logits, path, state = model.policy.decide(d, x, state, own if d >= first else _last_alternatives)
            scores.append(logits.float())
        paths.append(path)
        return path

    with torch.set_grad_enabled(learns):
        answers = model.sites.follow(images, decide)
    return answers, torch.cat([path.view(len(path), -1) for path in paths], dim=1), columns_of(scores)


def best_alternatives(probabilities: torch.Tensor) -> torch.Tensor:
    """(..., A) -> (...) int64."""
    return probabilities.argmax(dim=-1)


def _last_alternatives(logits: torch.Tensor) -> torch.Tensor:
    return torch.full(logits.shape[:-1], logits.shape[-1] - 1, dtype=torch.int64, device=logits.device)


def _freeze_norms(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
