"""The cost of a path, in floating-point operations."""

from dataclasses import dataclass

import numpy as np
import torch

from cascade.backends.dynamic.gates import PathPolicy
from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.site import counted
from cascade.backends.dynamic.site_network import SiteNetwork

__all__ = ["PathCosts"]


@dataclass(frozen=True)
class PathCosts:
    """Floating-point operations of a network and its path policy (a multiplication and an addition count as two).

    Attributes:
        fixed: operations of every row: stem, head and the whole policy.
        policy: the policy's share of ``fixed``.
        alternatives: (K, A), operations of each alternative of each column of the path; columns with fewer than A
            repeat their last one. Keys have one.
    """

    fixed: float
    policy: float
    alternatives: torch.Tensor

    @classmethod
    def count(cls, network: SiteNetwork, policy: PathPolicy, row: Inputs) -> "PathCosts":
        """Counts the operations.

        Args:
            network: in evaluation mode, not packed.
            policy: of the network, not packed.
            row: a single row; on the same device as network and policy, which may be "meta".
        """
        columns: list[list[float]] = []
        with torch.inference_mode():
            stem, x = counted(network.stem, row)
            asked, state = counted(policy.begin, row)
            for d, site in enumerate(network.sites):
                if policy.scored:
                    step, (_, state) = counted(policy.step, d, x, state)
                    asked += step
                works, x = site.works(x)
                columns += works
            head, _ = counted(network.head, x)
        most = max(map(len, columns), default=0)
        alternatives = [[*works, *[works[-1]] * (most - len(works))] for works in columns]
        return cls(stem + head + asked, asked, torch.tensor(alternatives, dtype=torch.float64))

    @property
    def dense(self) -> float:
        """Operations of the last alternative everywhere, without a policy."""
        return self.fixed - self.policy + float(self.alternatives[:, -1].sum())

    @property
    def highest(self) -> float:
        """Operations of the path with the most expensive alternative of every column."""
        return self.fixed + float(self.alternatives.amax(dim=1).sum())

    @property
    def relative(self) -> np.ndarray:
        """(K, A), works above the cheapest alternative of the column; the mean over columns of the largest is 1."""
        above = self.alternatives - self.alternatives.amin(dim=1, keepdim=True)
        scale = float(above.amax(dim=1).mean())
        result: np.ndarray = (above / scale if scale else above).numpy()
        return result

    def of(self, paths: torch.Tensor) -> torch.Tensor:
        """Operations of each row.

        Args:
            paths: (n, K) int64.

        Returns:
            (n,) float64.
        """
        index = paths.cpu().T.clamp(0, self.alternatives.shape[1] - 1)  # keys are any number
        return self.fixed + self.alternatives.gather(1, index).sum(dim=0)
