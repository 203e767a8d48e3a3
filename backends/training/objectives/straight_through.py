"""Hard decisions in the forward pass, soft ones in the backward pass."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.gates import columns_of
from cascade.backends.training.objectives.cross_entropy import answer_loss
from cascade.backends.training.objectives.objective import Batch
from cascade.backends.training.objectives.path_objective import (
    CostTerm,
    PathObjective,
    dynamic,
    path_costs,
    work_shares,
)
from cascade.backends.training.schedule import Schedule, Scheduled

__all__ = ["Gumbel", "StraightThrough", "hard_weights"]

SMALLEST = 1e-7  # keeps both logarithms finite


class StraightThrough(PathObjective):
    """Each row takes its best alternatives; the gradient is that of the softmax.

    The loss is the cross-entropy, plus the cost term, plus a term for even use of the alternatives. Wang et al.,
    "SkipNet", ECCV 2018, section 3.2 (supervised pre-training), https://arxiv.org/abs/1711.09485

    Attributes:
        temperature: of the softmax, above 0.
        noise: scale of the Gumbel noise that is added to the logits before the decision.
        cost: see :class:`~cascade.backends.training.objectives.path_objective.CostTerm`.
        balance: weight of the squared differences between the share of decisions for each alternative and an even
            share, summed. Meng et al., "AR-Net", ECCV 2020, section 3.3, https://arxiv.org/abs/2007.15796
        freeze_norms: off by default, since without noise the decisions are those of inference.
    """

    kind: Literal["straight_through"] = "straight_through"
    temperature: Scheduled = Schedule(start=1.0, end=1.0)
    noise: Scheduled = Schedule(start=0.0, end=0.0)
    cost: CostTerm = CostTerm()
    balance: Scheduled = Schedule(start=0.0, end=0.0)
    freeze_norms: bool = False

    @override
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        model = dynamic(network)
        state = model.policy.begin(batch.images)
        taken = []

        def choose(logits: torch.Tensor) -> torch.Tensor:
            noisy = logits.float() + self.noise.at(done) * _gumbel_noise(logits)
            return hard_weights(noisy, self.temperature.at(done))

        def decide(d: int, x: torch.Tensor) -> torch.Tensor:
            nonlocal state
            _, weights, state = model.policy.decide(d, x, state, choose)
            taken.append(weights)
            return weights

        answers = answer_loss(model.sites.blend(batch.images, decide), batch)
        weights = columns_of(taken, filler=0.0)
        costs = path_costs(weights, work_shares(model.works(batch.images), weights.device)).sum(dim=1)
        uneven = (weights.mean(dim=(0, 1)) - 1 / weights.shape[2]).square().sum()
        return answers.mean() + self.cost.of(costs, done) + self.balance.at(done) * uneven


class Gumbel(StraightThrough):
    """Straight-through with sampled alternatives: noise of scale 1 gives each its softmax probability.

    Jang, Gu, Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017, section 2.2 (straight-through),
    https://arxiv.org/abs/1611.01144

    Attributes:
        noise: if the scale falls to 0 before the end of the phase, the batch norms can adapt to the paths of inference.
        freeze_norms: on by default; switch it off if the noise falls to 0.
    """

    kind: Literal["gumbel"] = "gumbel"  # type: ignore[assignment]
    noise: Scheduled = Schedule(start=1.0, end=1.0)
    freeze_norms: bool = True


def _gumbel_noise(logits: torch.Tensor) -> torch.Tensor:
    """One value for each logit, on its device."""
    uniform = torch.rand(logits.shape, device=logits.device).clamp(SMALLEST, 1 - SMALLEST)
    return -(-uniform.log()).log()


def hard_weights(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """One-hot rows of the largest logits, with the gradient of the softmax: (..., A) -> (..., A)."""
    soft = (logits / temperature).softmax(dim=-1)
    hard = functional.one_hot(soft.argmax(dim=-1), soft.shape[-1]).to(soft.dtype)
    result: torch.Tensor = hard + soft - soft.detach()
    return result
