"""Cross-entropy of the answers: the objective of an ordinary network."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.training.objectives.objective import Batch, Objective

__all__ = ["CrossEntropy", "answer_loss"]


def answer_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n,) cross-entropies of (n, C) logits."""
    return functional.cross_entropy(
        logits.float(), batch.labels, label_smoothing=batch.label_smoothing, reduction="none"
    )


class CrossEntropy(Objective):
    """The mean cross-entropy of a batch."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    @override
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        return answer_loss(network(batch.images), batch).mean()
