"""Small networks, and files of them."""

import numpy as np
import pytest
import torch
from torch import nn

from cascade.backends.networks.resnet import CifarResNet


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_network():
    """A ResNet-8 of 4 channels with batch norm statistics of data, in evaluation mode."""
    torch.manual_seed(0)
    return settle(CifarResNet(depth=8, width=4, classes=3), size=16)


def settle(network: nn.Module, size: int) -> nn.Module:
    """Sets statistics and weights of the batch norms that differ from those of a new network."""
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.5
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.uniform_(norm.bias, -0.5, 0.5, generator=generator)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 3, size, size, generator=generator) * 2 + 0.5)
    return network.eval()


@pytest.fixture(scope="session")
def settled():
    """The function ``settle``."""
    return settle


@pytest.fixture(scope="session")
def pixels():
    """(6, 16, 16, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
