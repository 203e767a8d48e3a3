"""Runs a batch in which every row has its own path, and computes only what is on the paths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cascade.backends.dynamic.choice_network import ChoiceNetwork
from cascade.backends.dynamic.gates import PathPolicy

__all__ = ["Executor", "Outcome", "chosen"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a batch.

    Attributes:
        logits: (n, C).
        paths: (n, D) int64, the alternative that each row took at each choice; in the processor's memory.
    """

    logits: torch.Tensor
    paths: torch.Tensor


class Executor:
    """Runs a network along the paths that a policy chooses.

    At each choice the rows of each alternative are gathered, run together, and scattered back; packed convolutions run
    them in place (:meth:`~cascade.backends.dynamic.choice.Choice.route`). An alternative that returns its input costs
    nothing; one that all rows take runs without gathering.

    The processor needs the paths, since it sets the sizes of all tensors. If the policy decides everything at once, the
    paths are copied from the device once per batch, and the indices of all choices are copied to it once. With gates
    inside the network, the processor waits for the device at every choice.

    Args:
        network: in evaluation mode.
        policy: in evaluation mode; its weights must not change afterwards.
        price: subtracted from the logit of every alternative but the first, in units of the policy's logits. 0 is the
            policy as trained, above 0 is cheaper.
    """

    def __init__(self, network: ChoiceNetwork, policy: PathPolicy, price: float = 0.0) -> None:
        self.network = network
        self.policy = policy
        self.price = price
        self._scorer = policy.scorer()
        self._works = np.array([[not c.is_identity(a) for a in range(c.alternatives)] for c in network.choices])

    def run(self, images: torch.Tensor) -> Outcome:
        """Runs a batch: (n, 3, h, w), n >= 0."""
        with torch.inference_mode():
            x = self.network.stem(images)
            if self.policy.looks_at_features:
                x, paths = self._find(images, x)
            else:
                paths = chosen(self.policy.whole(images).float().cpu().numpy(), self.price)
                x = self._follow(x, paths)
            return Outcome(self.network.head(x), torch.from_numpy(paths))

    def _follow(self, x: torch.Tensor, paths: np.ndarray) -> torch.Tensor:
        """Runs known paths: (n, c, h, w) features, (n, D) paths."""
        choices = self.network.choices
        if len(paths) == 1:
            path = paths[0]
            for d in np.flatnonzero(self._works[np.arange(len(choices)), path]).tolist():
                x = choices[d].run_all(int(path[d]), x)
            return x
        for choice, (only, rows) in zip(choices, _routes(paths, choices[0].alternatives, x.device), strict=True):
            x = choice.route(x, rows) if only is None else choice.run_all(only, x)
        return x

    def _find(self, images: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """Lets the policy decide at every choice, and runs its decision; returns features and paths."""
        state = self._scorer.begin(images)
        paths = np.empty((len(x), len(self.network.choices)), dtype=np.int64)
        changed = True
        for d, choice in enumerate(self.network.choices):
            logits, state = self._scorer.step(d, x, state, changed)
            paths[:, d] = taken = chosen(logits, self.price)
            only: int | None = int(taken[0]) if len(taken) == 1 else None
            if only is None:
                ((only, rows),) = _routes(taken[:, None], choice.alternatives, x.device)
            changed = only is None or bool(self._works[d, only])
            if changed:
                x = choice.route(x, rows) if only is None else choice.run_all(only, x)
        return x, paths


def chosen(logits: np.ndarray, price: float) -> np.ndarray:
    """(..., A) -> (...) int64, the best alternative; the most expensive one of equals, and for a NaN.

    Args:
        logits: of the alternatives.
        price: subtracted from all but the first.
    """
    last = logits.shape[-1] - 1
    if price:
        logits = logits.copy()
        logits[..., 1:] -= price
    return np.asarray(last - logits[..., ::-1].argmax(axis=-1))


def _routes(
    paths: np.ndarray, alternatives: int, device: torch.device
) -> Iterator[tuple[int | None, Sequence[torch.Tensor]]]:
    """For each step: the alternative that all rows take; or ``None`` and the rows of each alternative.

    Args:
        paths: (n, number of steps) int64.
        alternatives: their number.
        device: of the indices, which are copied there once.
    """
    counts = np.stack([(paths == alternative).sum(axis=0) for alternative in range(alternatives)], axis=1).tolist()
    order = torch.from_numpy(np.argsort(paths.T, axis=1, kind="stable")).to(device)
    for own, rows in zip(counts, order, strict=True):
        if len(paths) in own:
            yield own.index(len(paths)), ()
        else:
            yield None, rows.split_with_sizes(own)
