"""Cross-entropy for the network, REINFORCE for its gates."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from typing_extensions import override

from cascade.backends.training.objectives.cross_entropy import answer_loss
from cascade.backends.training.objectives.objective import Batch
from cascade.backends.training.objectives.path_objective import (
    PathObjective,
    best_alternatives,
    costs_taken,
    drawn,
    dynamic,
    taken_log_probabilities,
    walk,
    work_shares,
)
from cascade.backends.training.schedule import Schedule, Scheduled

__all__ = ["HybridReinforce", "returns"]


class HybridReinforce(PathObjective):
    """Paths are sampled; the network learns from the answers on them, the policy from the return of each decision.

    Wang et al., "SkipNet", ECCV 2018, section 3.3 (hybrid reinforcement learning), https://arxiv.org/abs/1711.09485

    Attributes:
        cost_weight: alpha in the paper: reward for saving the work of all sites, in units of cross-entropy.
        answer_weight: beta in the paper: weight of the cross-entropy in a decision's return.
        policy_weight: weight of the REINFORCE term relative to the cross-entropy.
        baseline: subtracted from the returns, which reduces the variance of the gradient and not its mean: "none" as in
            the paper; "batch", the mean return of the batch in the same column; or "best", the return of the same row
            on its most probable path.
    """

    kind: Literal["hybrid_reinforce"] = "hybrid_reinforce"
    cost_weight: Scheduled = Schedule(start=0.1, end=0.1)
    answer_weight: float = Field(default=1.0, ge=0)
    policy_weight: float = Field(default=0.01, gt=0)
    baseline: Literal["none", "batch", "best"] = "none"

    @override
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        model = dynamic(network)
        state = model.policy.begin(batch.images)
        logits, taken, scores = walk(model, batch.images, state, drawn, first=0, learns=True)
        answers = answer_loss(logits, batch)
        shares = work_shares(model.works(batch.images), scores.device)
        gains = self._gains(answers.detach(), taken, shares, done)
        if self.baseline == "batch":
            gains = gains - gains.mean(dim=0)
        elif self.baseline == "best":
            with torch.no_grad():
                logits, best, _ = walk(model, batch.images, state, best_alternatives, first=0, learns=False)
                gains = gains - self._gains(answer_loss(logits, batch), best, shares, done)
        reinforce = -(taken_log_probabilities(scores.log_softmax(dim=2), taken) * gains).sum(dim=1).mean()
        return answers.mean() + self.policy_weight * reinforce

    def _gains(self, losses: torch.Tensor, paths: torch.Tensor, shares: torch.Tensor, done: float) -> torch.Tensor:
        savings = shares.amax(dim=1) - costs_taken(paths, shares)
        return returns(self.answer_weight * losses, self.cost_weight.at(done) * savings)


def returns(losses: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """The return of each decision: the sum of the rewards from it on, minus the loss at the end.

    Args:
        losses: (n,).
        rewards: (n, K) of each decision.

    Returns:
        (n, K).
    """
    return rewards.flip(1).cumsum(dim=1).flip(1) - losses[:, None]
