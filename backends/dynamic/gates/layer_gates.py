"""Each site decides from its own input, with one linear layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import PathPolicy, PathScorer, against_zero

__all__ = ["LayerGates"]


class LayerGates(PathPolicy):
    """The logit of each column is an affine function of the features, for sites of two alternatives.

    Of feature maps, (n, width, h, w), it is one of their means.

    Bengio, Bacon, Pineau, Precup, "Conditional Computation in Neural Networks for faster models", 2015, section 3,
    https://arxiv.org/abs/1511.06297

    Args:
        widths: (D,) features or channels of the input of each site.
        columns: (D,) columns of each site.
        initial_bias: above 0, everything runs at the start of a training.
    """

    looks_at_features = True

    def __init__(self, widths: Sequence[int], columns: Sequence[int], initial_bias: float = 2.0) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(c, k) for c, k in zip(widths, columns, strict=True))
        for gate in self.gates:
            nn.init.constant_(gate.bias, initial_bias)  # type: ignore[arg-type]

    def begin(self, images: Any) -> None:
        """No state: each site decides on its own."""

    @override
    def step(self, d: int, features: torch.Tensor, state: None) -> tuple[torch.Tensor, None]:
        """(n, columns, 2) logits of site ``d``, or (n, 2)."""
        logits = against_zero(self.gates[d](_pooled(features)))
        return logits[:, 0] if logits.shape[1] == 1 else logits, None

    @override
    def scorer(self) -> PathScorer:
        """In NumPy, if the features are in the processor's memory."""
        gates = [(gate.weight, gate.bias) for gate in self.gates if isinstance(gate, nn.Linear)]
        if any(weight.device.type != "cpu" for weight, _ in gates):
            return super().scorer()
        return _LayerScorer([(w.detach().float().numpy().T.copy(), b.detach().float().numpy()) for w, b in gates])


@dataclass(frozen=True, eq=False)
class _LayerScorer:
    """The gates in NumPy: at one row, PyTorch's calls take longer than a block that they may save.

    Attributes:
        gates: (width, columns) weight and (columns,) bias of each site.
    """

    gates: Sequence[tuple[np.ndarray, np.ndarray]]

    def begin(self, images: Any) -> None:
        """No state."""

    def step(self, d: int, features: torch.Tensor, _state: None, _changed: bool) -> tuple[np.ndarray, None]:
        """(n, columns, 2) logits of site ``d``."""
        weight, bias = self.gates[d]
        logits = np.zeros((len(features), len(bias), 2), dtype=np.float32)
        logits[:, :, 1] = _pooled(features).float().numpy() @ weight + bias
        return logits, None


def _pooled(features: torch.Tensor) -> torch.Tensor:
    """(n, width), the means of feature maps."""
    return features if features.ndim == 2 else features.mean(dim=(2, 3))
