"""Frames of clips: cut out, made smaller, and looked at by a network for each size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from cascade.backends.dynamic.feature_rows import put_rows, some_rows
from cascade.backends.dynamic.inputs import Inputs
from cascade.backends.dynamic.sites import PickOne
from cascade.backends.networks.resnet import CifarResNet
from cascade.errors import ConfigError

__all__ = ["SKIPS", "Film", "FrameNet", "Look", "smaller"]

SKIPS = (1, 2, 4)
"""Frames that are not looked at together, the present one first: the first alternatives of every frame."""


@dataclass(frozen=True)
class Film:
    """Cuts clips into frames.

    Attributes:
        frames: of a clip, T.
        side: of a frame, in pixels.
    """

    frames: int
    side: int

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """(n, 3, T side, side), the frames one below the other -> (n, T, 3, side, side).

        Raises:
            ConfigError: a clip has another size.
        """
        shape = None if isinstance(inputs, Mapping) else tuple(inputs.shape[1:])
        if isinstance(inputs, Mapping) or shape != (3, self.frames * self.side, self.side):
            raise ConfigError(
                f"AR-Net needs {self.frames} frames of {self.side} x {self.side} pixels, one below the other: rows "
                f"of {self.frames * self.side} x {self.side} with 3 channels; got "
                f"{'slices' if shape is None else f'channels, height, width {list(shape)}'}"
            )
        return inputs.view(-1, 3, self.frames, self.side, self.side).transpose(1, 2)


class FrameNet(nn.Module):
    """A ResNet-8 of frames that are made smaller first: logits, and a one that counts the frame.

    Args:
        size: that the frames are made to, in pixels.
        width: channels of its first group.
        classes: number of classes C.
    """

    def __init__(self, size: int, width: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.network = CifarResNet(8, width, classes=classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(m, 3, side, side) -> (m, C + 1) float32."""
        logits = self.network(smaller(frames, self.size)).float()
        return functional.pad(logits, (0, 1), value=1.0)


class Look(PickOne):
    """A frame is skipped, in one of three ways, or seen by one of the networks.

    Args:
        nets: by rising work, with results (m, C + 1).
        classes: number of classes C.
    """

    def __init__(self, nets: Sequence[nn.Module], classes: int) -> None:
        self.nets = tuple(nets)
        self.classes = classes
        self.alternatives = len(SKIPS) + len(self.nets)

    @override
    def run(self, alternative: int, x: torch.Tensor) -> torch.Tensor:
        if alternative < len(SKIPS):
            return x.new_zeros(len(x), self.classes + 1, dtype=torch.float32)
        seen: torch.Tensor = self.nets[alternative - len(SKIPS)](x)
        return seen

    @override
    def route(self, x: torch.Tensor, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Like that of other sites, but frames that are skipped are not gathered."""
        result = self.run(0, x)
        for net, mine in zip(self.nets, rows[len(SKIPS) :], strict=True):
            if len(mine):
                put_rows(result, mine, net(some_rows(x, mine)))
        return result


def smaller(frames: torch.Tensor, size: int) -> torch.Tensor:
    """Averages neighbouring pixels: (m, 3, side, side) -> (m, 3, size, size)."""
    return frames if frames.shape[-1] == size else functional.adaptive_avg_pool2d(frames, size)
