"""The recurrent gate in NumPy: fourteen small operations cost PyTorch more time than a skipped block saves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from cascade.backends.dynamic.gates.recurrent_gate import RecurrentGate

__all__ = ["RecurrentScorer"]

State = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class RecurrentScorer:
    """The projection of the features is multiplied into the LSTM, whose three sigmoids and one tanh become one tanh.

    With s(x) = (1 + tanh(x / 2)) / 2, all four gates of the LSTM are one tanh of
    ``pooled @ features[c] + bias[c] + hidden @ recurrent``, in the order input, forget, output, cell.

    Attributes:
        features: (c, 4 H) for every number of channels c.
        bias: (4 H,) for every number of channels.
        recurrent: (H, 4 H).
        output: (H,).
        output_bias: of the logit.
    """

    features: Mapping[int, np.ndarray]
    bias: Mapping[int, np.ndarray]
    recurrent: np.ndarray
    output: np.ndarray
    output_bias: float

    @classmethod
    def of(cls, gate: "RecurrentGate") -> "RecurrentScorer":
        """The gate with its present weights, in float32."""
        hidden = gate.hidden

        def rearranged(weight: torch.Tensor) -> np.ndarray:
            """From PyTorch's order (input, forget, cell, output) of (4 H, ...), and halved where a sigmoid follows."""
            i, f, g, o = weight.detach().double().cpu().numpy().reshape(4, hidden, -1)
            return np.concatenate([i / 2, f / 2, o / 2, g])

        from_input = rearranged(gate.cell.weight_ih)
        constant = rearranged(gate.cell.bias_ih + gate.cell.bias_hh)[:, 0]
        features, bias = {}, {}
        for channels, projection in gate.projections.items():
            weight, offset = (value.detach().double().cpu().numpy() for value in projection.parameters())
            features[int(channels)] = _ready((from_input @ weight).T)
            bias[int(channels)] = _ready(from_input @ offset + constant)
        output = gate.output.weight.detach().float().cpu().numpy()[0]
        return cls(features, bias, _ready(rearranged(gate.cell.weight_hh).T), output, gate.output.bias.item())

    def begin(self, images: torch.Tensor) -> State:
        """An empty memory: (n, 4 H) of the features, (n, H) hidden state, (n, H) cell."""
        n, width = len(images), len(self.output)
        zeros = np.zeros((n, width), dtype=np.float32)
        return np.zeros((n, 4 * width), dtype=np.float32), zeros, zeros

    def step(self, _d: int, features: torch.Tensor, state: State, changed: bool) -> tuple[np.ndarray, State]:
        """Logits of skipping and running the next block."""
        seen, hidden, cell = state
        width = len(self.output)
        if changed:
            channels = features.shape[1]
            pooled = features.mean(dim=(2, 3)).float().numpy()
            seen = pooled @ self.features[channels] + self.bias[channels]
        gates = np.tanh(hidden @ self.recurrent + seen)
        opening = gates[:, : 3 * width] * np.float32(0.5) + np.float32(0.5)
        new = gates[:, 3 * width :]
        cell = opening[:, width : 2 * width] * cell + opening[:, :width] * new
        hidden = opening[:, 2 * width :] * np.tanh(cell)
        logits = np.zeros((len(hidden), 2), dtype=np.float32)
        logits[:, 1] = hidden @ self.output + self.output_bias
        return logits, (seen, hidden, cell)


def _ready(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)
