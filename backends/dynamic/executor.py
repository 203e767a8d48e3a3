"""Runs a batch in which every row has its own path, and computes nothing else."""

from dataclasses import dataclass

import torch

from cascade.backends.dynamic.choice import Choice
from cascade.backends.dynamic.choice_network import ChoiceNetwork
from cascade.routers.gates import PathPolicy

__all__ = ["Executor", "Outcome"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a batch came to.

    Attributes:
        logits: (n, C).
        paths: (n, D) int64, the alternative that each row took at each choice.
    """

    logits: torch.Tensor
    paths: torch.Tensor


class Executor:
    """Runs a network along the paths that a policy chooses.

    At each choice the rows of each alternative are gathered, run together, and put back. An alternative that returns
    its input costs nothing; one that all rows take is run without gathering.

    Args:
        network: in evaluation mode.
        policy: in evaluation mode.
        price: what a choice's dearer alternatives must be worth, in units of the policy's logits: it is taken off
            the logit of every alternative but the first. 0 is the policy as it was trained, above 0 is cheaper.
    """

    def __init__(self, network: ChoiceNetwork, policy: PathPolicy, price: float = 0.0) -> None:
        self.network = network
        self.policy = policy
        self.price = price

    def run(self, images: torch.Tensor) -> Outcome:
        """Runs a batch: (n, 3, h, w), n >= 1."""
        with torch.inference_mode():
            state = self.policy.begin(images)
            x = self.network.stem(images)
            paths = []
            for d, choice in enumerate(self.network.choices):
                logits, state = self.policy.step(d, x, state)
                path = self._chosen(logits)
                x = _run(choice, x, path)
                paths.append(path)
            return Outcome(self.network.head(x), torch.stack(paths, dim=1))

    def _chosen(self, logits: torch.Tensor) -> torch.Tensor:
        """(n,) int64, the best alternative of each row; of equal ones the dearest."""
        if self.price:
            logits = torch.cat([logits[:, :1], logits[:, 1:] - self.price], dim=1)
        last = logits.shape[1] - 1
        return last - logits.flip(1).argmax(dim=1)


def _run(choice: Choice, x: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """Runs one choice, each row by its own alternative; overwrites ``x`` where the shape stays."""
    result = None
    for alternative in range(choice.alternatives):
        rows = (path == alternative).nonzero()[:, 0]
        if len(rows) == len(x):
            return choice.run(alternative, x)
        if not len(rows) or choice.is_identity(alternative):
            continue
        part = choice.run(alternative, x[rows])
        if result is None:
            result = x if part.shape[1:] == x.shape[1:] else _like(part, len(x))
        result.index_copy_(0, rows, part)
    return x if result is None else result


def _like(part: torch.Tensor, rows: int) -> torch.Tensor:
    """An empty tensor for more rows like these, channels-last as they are."""
    return torch.empty((rows, *part.shape[1:]), dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
