"""Packing of convolutions for oneDNN, the library that runs PyTorch's convolutions on x86 and Arm processors."""

from typing import TypeGuard

import torch
from torch import nn

__all__ = ["PackedConvolution", "can_pack", "pack_convolutions"]


class PackedConvolution(nn.Module):
    """A convolution whose weights lie as oneDNN wants them, with the ReLU after it.

    PyTorch rearranges the weights at every call: of a small convolution on one row a third of the time. These are the
    operators that ``torch.compile`` writes for the same purpose; they have no public name.

    Args:
        convolution: on the processor, float32, padded with zeros.
        relu: computes a ReLU too.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.in_channels = convolution.in_channels
        self._weight = convolution.weight.detach()
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        self._geometry = [list(convolution.padding), list(convolution.stride), list(convolution.dilation)]
        self._groups = convolution.groups
        self._after = "relu" if relu else "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes the convolution: (n, c, h, w) float32, channels-last."""
        if not self._weight.is_mkldnn:  # now that the size of the images is known
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._geometry, self._groups, list(x.shape)
            )
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._geometry, self._groups, self._after, [], ""
        )
        return result


def can_pack() -> bool:
    """Whether this build of PyTorch has oneDNN and the operators."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")


def pack_convolutions(network: nn.Module) -> nn.Module:
    """Packs every convolution in an ``nn.Sequential``, with the ReLU that follows; drops identities.

    Args:
        network: in float32 on the processor, in evaluation mode, norms folded; changed in place, and only good for
            inference then.

    Returns:
        The same network.
    """
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        layers = [layer for layer in sequence if not isinstance(layer, nn.Identity)]
        packed: list[nn.Module] = []
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(layer, nn.ReLU) and packed and isinstance(packed[-1], PackedConvolution):
                continue
            packed.append(PackedConvolution(layer, isinstance(following, nn.ReLU)) if _fits(layer) else layer)
        del sequence[:]
        sequence.extend(packed)
    return network


def _fits(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
