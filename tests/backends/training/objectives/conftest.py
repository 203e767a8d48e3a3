"""A dynamic network small enough that all its paths can be enumerated."""

import itertools

import pytest
import torch

from cascade.backends.dynamic.dynamic_network import BlockDrop, SkipNet
from cascade.backends.training.objectives import Batch

SIZE = 8
DEPTH = 8


def networks():
    """Name and network, in training mode; the policies are undecided, and differ from row to row."""
    torch.manual_seed(0)
    blockdrop = BlockDrop(depth=DEPTH, width=4, policy_width=4, classes=3)
    skipnet = SkipNet(depth=DEPTH, width=4, classes=3)
    with torch.no_grad():
        blockdrop.policy.network.head.bias.zero_()
        blockdrop.policy.network.head.weight.mul_(5)
        skipnet.policy.output.bias.zero_()
        skipnet.policy.output.weight.mul_(5)
    return {"one-shot": blockdrop, "recurrent": skipnet}


@pytest.fixture(params=["one-shot", "recurrent"])
def network(request, settled):
    """A BlockDrop of 3 choices, or a SkipNet of 2."""
    network = networks()[request.param]
    settled(network.base, SIZE)
    if request.param == "one-shot":
        settled(network.policy.network, SIZE)
    return network


@pytest.fixture(scope="session")
def batch():
    """Four rows."""
    generator = torch.Generator().manual_seed(5)
    return Batch(torch.randn(4, 3, SIZE, SIZE, generator=generator), torch.tensor([0, 1, 2, 1]))


@pytest.fixture
def all_paths(network):
    """(2^D, D) int64."""
    return torch.tensor(list(itertools.product([0, 1], repeat=len(network.sites.sites))))


@pytest.fixture
def force(monkeypatch):
    """A function that replaces the next draws, choice by choice, by those of a path."""

    def draw_along(path):
        columns = iter(path)
        monkeypatch.setattr(torch.Tensor, "multinomial", lambda p, n: torch.full((len(p), n), int(next(columns))))

    return draw_along
