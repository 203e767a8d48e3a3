"""Networks of random weights whose rows take given paths, after the whole work of a policy."""

from typing import Any

import numpy as np
import torch
from torch import nn

from cascade.backends.dynamic.gates import ConvolutionalGates, OneShotPolicy, PathPolicy, RecurrentGate
from cascade.backends.dynamic.gates.path_policy import PathScorer
from cascade.backends.dynamic.site_network import SkipNetwork
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.image_resnet import ImageResNet
from cascade.backends.networks.resnet import CifarResNet

__all__ = ["GivenPaths", "base_network", "masked", "policy_of", "ready"]


class GivenPaths(PathPolicy):
    """Does the work of a policy, and then follows given paths.

    Args:
        policy: whose work it is.
        device: of the logits.
    """

    def __init__(self, policy: PathPolicy, device: torch.device) -> None:
        super().__init__()
        self.policy, self.device = policy, device
        self.looks_at_features = policy.looks_at_features
        self.begin, self.step = policy.begin, policy.step  # type: ignore[method-assign]
        self.logits = torch.zeros(0)

    def take(self, paths: torch.Tensor) -> None:
        """Sets the paths: (n, D) of 0 and 1."""
        logits = nn.functional.one_hot(paths, 2).float().to(self.device)
        if self.device.type == "cuda" and self.logits.shape == logits.shape:
            self.logits.copy_(logits)  # where a CUDA graph reads them
        else:
            self.logits = logits

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of the given paths, after the work."""
        worked = self.policy.whole(images)
        return self.logits if self.logits.shape == worked.shape else worked

    def scorer(self) -> PathScorer:
        """The policy's own, with other logits."""
        return _GivenScorer(self)


class _GivenScorer:
    def __init__(self, given: GivenPaths) -> None:
        self.given = given
        self.inner = given.policy.scorer()
        self.begin = self.inner.begin

    def step(self, d: int, features: torch.Tensor, state: Any, changed: bool) -> tuple[np.ndarray, Any]:
        _, state = self.inner.step(d, features, state, changed)
        return self.given.logits[:, d].cpu().numpy(), state


def masked(network: SkipNetwork, images: torch.Tensor, paths: torch.Tensor, some_only: bool) -> torch.Tensor:
    """Every block of all rows, times 0 or 1; with ``some_only``, but for the blocks that no row needs."""
    x, device_paths = network.stem(images), paths.to(images.device)
    for d, site in enumerate(network.sites):
        if some_only and not paths[:, d].any():
            x = site.run(0, x)
            continue
        keep = device_paths[:, d].to(x.dtype)[:, None, None, None]
        x = keep * site.run(1, x) + (1 - keep) * site.run(0, x)
    return network.head(x)


def base_network(name: str, device: str, dtype: torch.dtype) -> nn.Module:
    """Folded, channels-last."""
    network = CifarResNet(110) if name == "resnet110" else ImageResNet(101)
    return ready(network).to(device, dtype)


def ready(network: nn.Module) -> nn.Module:
    """Folded, channels-last, without gradients."""
    folded: nn.Module = fold_norms(network).requires_grad_(False)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def policy_of(name: str, gate: str, network: SkipNetwork, width: int = 16, stem_stride: int = 1) -> PathPolicy:
    """A fresh policy for a network; width and stride of the stem are those of the one-shot policy of ResNet-110."""
    channels = [site.channels for site in network.sites]
    if gate == "one-shot":
        blocks = len(channels)
        return OneShotPolicy(
            CifarResNet(8, width, stem_stride, blocks) if name == "resnet110" else ImageResNet(10, blocks, shrink=2)
        )
    return RecurrentGate(channels) if gate == "recurrent" else ConvolutionalGates(channels, "II")
