"""Stochastic depth: a step trains a part of the blocks of a residual network."""

from typing import Literal

import torch
from pydantic import field_validator
from torch import nn
from typing_extensions import override

from cascade.backends.training.objectives.cross_entropy import answer_loss
from cascade.backends.training.objectives.objective import Batch, Objective
from cascade.backends.training.schedule import Schedule, Scheduled
from cascade.errors import ConfigError

__all__ = ["StochasticDepth"]


class StochasticDepth(Objective):
    """The mean cross-entropy of a batch, without some random blocks, which are not computed.

    Huang, Sun, Liu, Sedra, Weinberger, "Deep networks with stochastic depth", ECCV 2016,
    https://arxiv.org/abs/1603.09382. Block l of L is dropped with probability ``drop * l / L``, for all rows of a step
    together. Blocks that change the shape always run. At inference all blocks run, and their residuals are not scaled,
    unlike in the paper: the training should end with a phase without drops, in which the batch norms adapt.

    Attributes:
        drop: probability that the last block is dropped, in [0, 1].
    """

    kind: Literal["stochastic_depth"] = "stochastic_depth"
    drop: Scheduled = Schedule(start=0.5, end=0.5)

    @field_validator("drop")
    @classmethod
    def _a_probability(cls, value: Schedule) -> Schedule:
        if not (0 <= value.start <= 1 and 0 <= value.end <= 1):
            raise ValueError(f"drop must be between 0 and 1; got {value.start} to {value.end}")
        return value

    @override
    def prepare(self, network: nn.Module) -> None:
        if not all(hasattr(network, part) for part in ("stem", "blocks", "classify")):
            raise ConfigError(
                f"kind: stochastic_depth drops the blocks of a residual network; {type(network).__name__} has none"
            )
        network.train()

    @override
    def loss(self, network: nn.Module, batch: Batch, done: float) -> torch.Tensor:
        blocks: nn.Sequential = network.blocks  # type: ignore[assignment]
        x = network.stem(batch.images)  # type: ignore[operator]
        probabilities = self.drop.at(done) * torch.arange(1, len(blocks) + 1) / len(blocks)
        dropped = (torch.rand(len(blocks)) < probabilities).tolist()
        for block, skipped in zip(blocks, dropped, strict=True):
            if not (skipped and isinstance(block.shortcut, nn.Identity)):
                x = block(x)
        return answer_loss(network.classify(x), batch).mean()  # type: ignore[operator]
