"""Part after part of a row is decided, with a memory of the parts and of the decisions before."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.gates.path_policy import Choose, PathPolicy
from cascade.backends.dynamic.inputs import Inputs

__all__ = ["IMPOSSIBLE", "SequencePolicy"]

IMPOSSIBLE = -1e4
"""Added to the logit of an alternative that cannot be taken; finite, so that no gradient is NaN."""

State = tuple[torch.Tensor, torch.Tensor]
"""(n, T, F) what is seen of each part, and (n or 1, T, C, A) what is added to the logits."""


class SequencePolicy(PathPolicy):
    """One LSTM scores the alternatives of each part; its input is a glance at the part and the decision before.

    For a network whose only site is :class:`~cascade.backends.dynamic.sites.parts.Parts`. The decisions that are
    remembered are those that are run: sampled ones in training, those at the present price otherwise.

    Args:
        glance: from the input of the network to (n, T, F).
        features: F.
        shape: parts T, columns of a part C, alternatives of a column A.
        hidden: size of the LSTM.
        initial_bias: of the last alternative; above 0, the most expensive one is taken at the start of a training.
    """

    looks_at_features = False

    def __init__(
        self,
        glance: nn.Module,
        features: int,
        shape: tuple[int, int, int],
        hidden: int = 32,
        initial_bias: float = 2.0,
    ) -> None:
        super().__init__()
        self.glance = glance
        self.parts, self.columns, self.alternatives = shape
        self.hidden = hidden
        self.cell = nn.LSTMCell(features + self.columns * self.alternatives, hidden)
        self.output = nn.Linear(hidden, self.columns * self.alternatives)
        with torch.no_grad():
            self.output.bias.view(self.columns, self.alternatives)[:, -1] += initial_bias

    def limits(self, inputs: Inputs) -> torch.Tensor:  # noqa: ARG002 (for subclasses)
        """(n or 1, T, C, A), ``IMPOSSIBLE`` for what cannot be taken, 0 otherwise."""
        return self.output.weight.new_zeros(1, self.parts, self.columns, self.alternatives)

    def passed_over(self, decisions: Sequence[torch.Tensor]) -> torch.Tensor | None:  # noqa: ARG002 (for subclasses)
        """(n,) bool, whether the next part is passed over, given the (n, C) or (n, C, A) decisions before; or ``None``.

        A part that is passed over takes alternative 0, and the LSTM does not see it.
        """
        return None

    def begin(self, images: Inputs) -> State:
        """A glance at all parts, and the limits."""
        return self.glance(images), self.limits(images)

    @override
    def step(self, d: int, features: torch.Tensor | None, state: State) -> tuple[torch.Tensor, State]:
        """(n, T C, A) logits, where every part takes its best alternatives."""
        logits, _, state = self.decide(d, features, state, lambda scores: scores.argmax(dim=-1))
        return logits, state

    @override
    def decide(
        self, d: int, features: torch.Tensor | None, state: State, choose: Choose
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Logits and decisions of all T C columns; each part is chosen before the next one is scored."""
        scores, decisions = self._unroll(state, lambda _, own: choose(own))
        return torch.cat(scores, dim=1), torch.cat(decisions, dim=1), state

    @override
    def whole(self, images: Inputs) -> torch.Tensor:
        return self.step(0, None, self.begin(images))[0]

    @override
    def paths(self, inputs: Inputs, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        state = self.begin(inputs)
        n = len(state[0])
        logits = np.zeros((n, self.parts, self.columns, self.alternatives), dtype=np.float32)

        def chosen(t: int, scores: torch.Tensor) -> torch.Tensor:
            logits[:, t] = scores.float().cpu().numpy()
            paths = choose(logits.reshape(n, self.parts * self.columns, self.alternatives))
            return torch.from_numpy(paths.reshape(n, self.parts, self.columns)[:, t]).to(scores.device)

        _, decisions = self._unroll(state, chosen)
        return torch.cat(decisions, dim=1).cpu().numpy()

    def _unroll(
        self, state: State, choose: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Scores (n, C, A) and decisions, (n, C) or (n, C, A) weights, of each part."""
        seen, limits = state
        n = len(seen)
        hidden = memory = seen.new_zeros(n, self.hidden)
        past = seen.new_zeros(n, self.columns * self.alternatives)
        scores, decisions = list[torch.Tensor](), list[torch.Tensor]()
        for t in range(self.parts):
            over = self.passed_over(decisions)
            before = (hidden, memory, past)
            hidden, memory = self.cell(torch.cat([seen[:, t], past], dim=1), (hidden, memory))
            own = self.output(hidden).view(n, self.columns, self.alternatives) + limits[:, t]
            if over is not None:
                own = torch.where(over[:, None, None], self._only_first(own), own)
            decision = choose(t, own)
            past = self._one_hot(decision).flatten(1)
            if over is not None:
                after = (hidden, memory, past)
                hidden, memory, past = (torch.where(over[:, None], *both) for both in zip(before, after, strict=True))
            scores.append(own)
            decisions.append(decision)
        return scores, decisions

    @staticmethod
    def _only_first(scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, IMPOSSIBLE)
        forced[..., 0] = 0.0
        return forced

    def _one_hot(self, decision: torch.Tensor) -> torch.Tensor:
        """(n, C, A) float weights of a decision."""
        is_path = decision.ndim == 2
        return functional.one_hot(decision, self.alternatives).float() if is_path else decision
