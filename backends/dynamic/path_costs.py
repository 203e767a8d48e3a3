"""What a path costs, in floating-point operations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from cascade.backends.dynamic.choice_network import ChoiceNetwork
from cascade.backends.networks.packing import can_pack
from cascade.routers.gates import PathPolicy

__all__ = ["PathCosts"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PathCosts:
    """Floating-point operations of a network and its path policy (a multiplication and an addition count as two).

    Attributes:
        fixed: of what every row runs: stem, head and the whole policy.
        policy: the policy's part of it.
        alternatives: (D, A) of each alternative.
    """

    fixed: float
    policy: float
    alternatives: torch.Tensor

    @classmethod
    def count(cls, network: ChoiceNetwork, policy: PathPolicy, image: torch.Tensor) -> "PathCosts":
        """Counts them.

        Args:
            network: in evaluation mode.
            policy: of the network.
            image: (1, 3, h, w), of the size that will be run.
        """
        with torch.inference_mode(), torch.autocast(image.device.type, enabled=False):
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
        """Of the whole network without a policy."""
        return self.fixed - self.policy + float(self.alternatives[:, -1].sum())

    def of(self, paths: torch.Tensor) -> torch.Tensor:
        """Operations of each row.

        Args:
            paths: (n, D) int64.

        Returns:
            (n,) float64.
        """
        return self.fixed + self.alternatives.gather(1, paths.cpu().T).sum(dim=0)


def _counted(function: Callable[..., _Result], *arguments: object) -> tuple[float, _Result]:
    packed = {torch.ops.mkldnn._convolution_pointwise: _packed_convolution} if can_pack() else {}
    with FlopCounterMode(display=False, custom_mapping=packed) as counter:
        result = function(*arguments)
    return float(counter.get_total_flops()), result


def _packed_convolution(
    image: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    return conv_flop_count(image, weight, out_shape)  # type: ignore[arg-type]
