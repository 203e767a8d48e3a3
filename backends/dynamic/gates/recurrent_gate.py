"""One gate with a memory for all blocks, and its scorer for inference on a processor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy, PathScorer, against_zero

__all__ = ["RecurrentGate"]

State = tuple[torch.Tensor, torch.Tensor]
ScorerState = tuple[np.ndarray, np.ndarray, np.ndarray]


class RecurrentGate(PathPolicy):
    """Averages the features over the image and projects them; one small LSTM, shared by all blocks, scores them.

    Wang, Yu, Dou, Darrell, Gonzalez, "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV 2018,
    section 3.1, https://arxiv.org/abs/1711.09485

    Args:
        channels: (D,) channels of the input of each choice.
        hidden: size of the projection and of the LSTM; 10 in the paper.
        initial_bias: of the output; above 0, blocks run at the start of a training.
    """

    looks_at_features = True

    def __init__(self, channels: Sequence[int], hidden: int = 10, initial_bias: float = 2.0) -> None:
        super().__init__()
        self.hidden = hidden
        # Blocks with the same number of channels share their projection.
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
        """In NumPy, if the features are in the processor's memory."""
        on_processor = self.output.weight.device.type == "cpu"
        return _RecurrentScorer.of(self) if on_processor else super().scorer()


@dataclass(frozen=True, eq=False)
class _RecurrentScorer:
    """The recurrent gate in NumPy: fourteen small operations take PyTorch more time than a skipped block saves.

    The projection of the features is multiplied into the LSTM, and its three sigmoids and one tanh become one tanh.
    With s(x) = (1 + tanh(x / 2)) / 2, all four gates of the LSTM are one tanh of
    ``pooled @ features[c] + bias[c] + hidden @ recurrent``, in the order input, forget, output, cell. One product gives
    the logits and what the next step needs of the hidden state.

    Attributes:
        features: (c, 4 H) for every number of channels c.
        bias: (4 H,) for every number of channels.
        from_hidden: (H, 4 H + 2), the recurrent weights and those of the logits, for twice the hidden state.
        logits_bias: (2,), of the logits of skipping and running.
    """

    features: Mapping[int, np.ndarray]
    bias: Mapping[int, np.ndarray]
    from_hidden: np.ndarray
    logits_bias: np.ndarray

    @classmethod
    def of(cls, gate: RecurrentGate) -> "_RecurrentScorer":
        """The gate with its present weights, in float32."""
        hidden = gate.hidden

        def rearranged(weight: torch.Tensor) -> np.ndarray:
            """(4 H, ...) in PyTorch's order (input, forget, cell, output), reordered and halved for the sigmoids."""
            i, f, g, o = weight.detach().double().cpu().numpy().reshape(4, hidden, -1)
            return np.concatenate([i / 2, f / 2, o / 2, g])

        from_input = rearranged(gate.cell.weight_ih)
        constant = rearranged(gate.cell.bias_ih + gate.cell.bias_hh)[:, 0]
        features, bias = {}, {}
        for channels, projection in gate.projections.items():
            weight, offset = (value.detach().double().cpu().numpy() for value in projection.parameters())
            features[int(channels)] = _ready((from_input @ weight).T)
            bias[int(channels)] = _ready(from_input @ offset + constant)
        output = gate.output.weight.detach().double().cpu().numpy()
        from_hidden = np.concatenate([rearranged(gate.cell.weight_hh), np.zeros_like(output), output])
        return cls(features, bias, _ready(from_hidden.T / 2), _ready(np.array([0.0, gate.output.bias.item()])))

    def begin(self, images: torch.Tensor) -> ScorerState:
        """An empty memory: (n, 4 H) of the features, (n, 4 H) of the hidden state, (n, H) cell."""
        zeros = np.zeros((len(images), 4 * len(self.from_hidden)), dtype=np.float32)
        return zeros, zeros, zeros[:, : len(self.from_hidden)]

    def step(
        self, _d: int, features: torch.Tensor, state: ScorerState, changed: bool
    ) -> tuple[np.ndarray, ScorerState]:
        """Logits of skipping and running the next block."""
        seen, remembered, cell = state
        width = len(self.from_hidden)
        if changed:
            pooled = features.mean(dim=(2, 3), dtype=torch.float32).numpy()
            channels = pooled.shape[1]
            seen = pooled @ self.features[channels] + self.bias[channels]
        gates = np.tanh(remembered + seen)
        gates[:, : 3 * width] += 1  # twice the sigmoids
        cell = gates[:, width : 2 * width] * cell
        cell += gates[:, :width] * gates[:, 3 * width :]
        cell *= 0.5
        found = (gates[:, 2 * width : 3 * width] * np.tanh(cell)) @ self.from_hidden
        return found[:, 4 * width :] + self.logits_bias, (seen, found[:, : 4 * width], cell)


def _ready(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)
