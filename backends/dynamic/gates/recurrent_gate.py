"""One gate with a memory for all blocks."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy, against_zero
from cascade.backends.dynamic.gates.path_scorer import PathScorer
from cascade.backends.dynamic.gates.recurrent_scorer import RecurrentScorer

__all__ = ["RecurrentGate"]

State = tuple[torch.Tensor, torch.Tensor]


class RecurrentGate(PathPolicy):
    """Features are averaged over the image and projected; one small LSTM, shared by all blocks, scores them.

    Wang, Yu, Dou, Darrell, Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV 2018,
    section 3.1, https://arxiv.org/abs/1711.09485

    Args:
        channels: (D,) of the features that come to each choice.
        hidden: size of the projection and of the LSTM; 10 in the paper.
        initial_bias: of the output: above 0, blocks run at the beginning of a training.
    """

    looks_at_features = True

    def __init__(self, channels: Sequence[int], hidden: int = 10, initial_bias: float = 2.0) -> None:
        super().__init__()
        self.hidden = hidden
        # Blocks with as many channels share their projection.
        self.projections = nn.ModuleDict({str(c): nn.Linear(c, hidden) for c in sorted(set(channels))})
        self.cell = nn.LSTMCell(hidden, hidden)
        self.output = nn.Linear(hidden, 1)
        nn.init.constant_(self.output.bias, initial_bias)

    def begin(self, images: torch.Tensor) -> State:
        """An empty memory."""
        zeros = self.output.weight.new_zeros(len(images), self.hidden)
        return zeros, zeros

    @override
    def step(self, d: int, features: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Logits of skipping and running block ``d``."""
        projected = self.projections[str(features.shape[1])](features.mean(dim=(2, 3)))
        hidden, memory = self.cell(projected, state)
        return against_zero(self.output(hidden)[:, 0]), (hidden, memory)

    @override
    def scorer(self) -> PathScorer:
        """In NumPy, where the features are in the processor's memory."""
        on_processor = self.output.weight.device.type == "cpu"
        return RecurrentScorer.of(self) if on_processor else super().scorer()
