"""REINFORCE with the best path's reward as the baseline."""

import math
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

__all__ = ["SelfCritical", "bounded", "path_rewards"]

SMALLEST = 1e-30  # keeps the logarithm of alternatives that do not exist finite


class SelfCritical(PathObjective):
    """REINFORCE with the reward of the most probable path as the baseline.

    Wu et al., "BlockDrop", CVPR 2018, sections 3.2 and 3.3, https://arxiv.org/abs/1711.08393. The reward of a right
    answer is ``1 - cost^2``, with the share of the work as cost, and that of a wrong one ``-penalty``.

    Attributes:
        penalty: gamma in the paper, at least 0.
        exploration: alpha in the paper, in (0.5, 1): alternatives are sampled with probability
            ``alpha p + (1 - alpha)(1 - p)``, which is never 0 or 1.
        entropy_weight: beta in the released code: weight of the entropy of the decisions, which is rewarded.
        controlled: the curriculum: share of the sites, from the last, at which the policy decides; the others take
            their last alternative. The policy decides at one site at least.
        policy_weight: weight of the REINFORCE term relative to the cross-entropy. The released code sums the term over
            the batch but averages the cross-entropy, which equals a weight of the batch size.
        learn_on: the paths on which the network learns from the cross-entropy: "drawn", the sampled ones, as in the
            paper; or "best", the most probable ones, which are used at inference.
    """

    kind: Literal["self_critical"] = "self_critical"
    penalty: float = Field(default=1.0, ge=0)
    exploration: Scheduled = Schedule(start=0.8, end=0.8)
    entropy_weight: Scheduled = Schedule(start=0.0, end=0.0)
    controlled: Scheduled = Schedule(start=1.0, end=1.0)
    policy_weight: float = Field(default=1.0, gt=0)
    learn_on: Literal["drawn", "best"] = "drawn"

    @override
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        model = dynamic(network)
        network_sites = model.sites.sites
        depth = len(network_sites)
        first = depth - max(1, min(depth, math.ceil(self.controlled.at(done) * depth)))
        alpha = self.exploration.at(done)
        state = model.policy.begin(batch.images)
        learns_on_best = self.learn_on == "best" and not self.freeze_base
        learns_on_drawn = self.learn_on == "drawn" and not self.freeze_base
        best_answers, best, _ = walk(model, batch.images, state, best_alternatives, first, learns_on_best)
        answers, sampled, scores = walk(
            model, batch.images, state, lambda p: drawn(bounded(p, alpha)), first, learns_on_drawn
        )
        shares = work_shares(model.works(batch.images), scores.device)
        decided = sum(site.columns for site in network_sites[:first])
        advantage = path_rewards(answers, sampled, batch.labels, self.penalty, shares) - path_rewards(
            best_answers, best, batch.labels, self.penalty, shares
        )
        probabilities = bounded(scores.softmax(dim=2), alpha, ~scores.isneginf())
        logarithms = probabilities.clamp_min(SMALLEST).log()
        scored = taken_log_probabilities(logarithms, sampled)[:, decided:]
        entropy = -(probabilities * logarithms)[:, decided:].sum(dim=2)
        terms = -scored * advantage[:, None] - self.entropy_weight.at(done) * entropy
        loss = self.policy_weight * terms.sum(dim=1).mean()
        if not self.freeze_base:
            loss = loss + answer_loss(best_answers if learns_on_best else answers, batch).mean()
        return loss


def bounded(probabilities: torch.Tensor, alpha: float, exists: torch.Tensor | None = None) -> torch.Tensor:
    """Probabilities bounded away from 0 and 1: ``alpha p + (1 - alpha) (1 - p) / (A - 1)`` over the last axis.

    Args:
        probabilities: (..., A).
        alpha: in (0.5, 1).
        exists: (..., A), which alternatives there are; the others keep 0.
    """
    if exists is None:
        exists = torch.ones_like(probabilities, dtype=torch.bool)
    others = exists.sum(dim=-1, keepdim=True) - 1
    return (alpha * probabilities + (1 - alpha) * (1 - probabilities) / others) * exists


def path_rewards(
    answers: torch.Tensor, paths: torch.Tensor, labels: torch.Tensor, penalty: float, shares: torch.Tensor
) -> torch.Tensor:
    """(n,) rewards of (n, C) logits along (n, K) paths, with (K, A) shares of the work."""
    costs = costs_taken(paths, shares).sum(dim=1)
    right = answers.detach().argmax(dim=1) == labels
    return torch.where(right, 1 - costs**2, torch.full_like(costs, -penalty))
