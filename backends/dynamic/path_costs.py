"""The cost of a path, in floating-point operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.dynamic.choice_network import ChoiceNetwork
from cascade.backends.dynamic.gates import PathPolicy

__all__ = ["PathCosts"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PathCosts:
    """Floating-point operations of a network and its path policy (a multiplication and an addition count as two).

    Attributes:
        fixed: operations of every row: stem, head and the whole policy.
        policy: the policy's share of ``fixed``.
        alternatives: (D, A), operations of each alternative.
    """

    fixed: float
    policy: float
    alternatives: torch.Tensor

    @classmethod
    def count(cls, network: ChoiceNetwork, policy: PathPolicy, image: torch.Tensor) -> "PathCosts":
        """Counts the operations.

        Args:
            network: in evaluation mode, not packed.
            policy: of the network, not packed.
            image: (1, 3, h, w); on the same device as network and policy, which may be "meta".
        """
        with torch.inference_mode():
            stem, x = _counted(network.stem, image)
            policy_flops, state = _counted(policy.begin, image)
            rows = []
            for d, choice in enumerate(network.choices):
                step, (_, state) = _counted(policy.step, d, x, state)
                policy_flops += step
                rows.append([_counted(choice.run, a, x)[0] for a in range(choice.alternatives)])
                x = choice.run(choice.alternatives - 1, x)
            head, _ = _counted(network.head, x)
        return cls(stem + head + policy_flops, policy_flops, torch.tensor(rows, dtype=torch.float64))

    @property
    def dense(self) -> float:
        """Operations of the whole network without a policy."""
        return self.fixed - self.policy + float(self.alternatives[:, -1].sum())

    @property
    def highest(self) -> float:
        """Operations of the path with the most expensive alternative of every choice."""
        return self.fixed + float(self.alternatives.max(dim=1).values.sum())

    def of(self, paths: torch.Tensor) -> torch.Tensor:
        """Operations of each row.

        Args:
            paths: (n, D) int64.

        Returns:
            (n,) float64.
        """
        return self.fixed + self.alternatives.gather(1, paths.cpu().T).sum(dim=0)


def _counted(function: Callable[..., _Result], *arguments: object) -> tuple[float, _Result]:
    with FlopCounterMode(display=False) as counter:
        result = function(*arguments)
    return float(counter.get_total_flops()), result
