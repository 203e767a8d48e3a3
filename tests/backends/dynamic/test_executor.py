"""The executor computes what the masked reference does, for every path."""

import itertools

import pytest
import torch
from torch import nn

from cascade.backends.dynamic.choice_network import skippable
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.networks.resnet import CifarResNet
from cascade.routers.gates import ConvolutionalGates, OneShotPolicy, PathPolicy, RecurrentGate

SIZE = 8


class FixedPaths(nn.Module):
    """A policy network that answers with given bits, whatever it sees."""

    def __init__(self, paths):
        super().__init__()
        self.paths = paths

    def forward(self, images):
        return self.paths[: len(images)].float() * 2 - 1


@pytest.fixture(scope="module")
def network(settled):
    torch.manual_seed(0)
    return skippable(settled(CifarResNet(depth=14, width=4, classes=3), SIZE))


def masked(network, images, paths):
    """The reference: every block is computed, and its output counts or does not."""
    return network.blend(images, lambda d, x: nn.functional.one_hot(paths[:, d], 2))


def test_every_path_of_a_small_network_gives_the_numbers_of_the_masked_reference(network):
    paths = torch.tensor(list(itertools.product([0, 1], repeat=6)))
    images = torch.randn(len(paths), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    outcome = Executor(network, OneShotPolicy(FixedPaths(paths))).run(images)
    assert torch.equal(outcome.paths, paths)
    with torch.inference_mode():
        torch.testing.assert_close(outcome.logits, masked(network, images, paths), rtol=1e-5, atol=1e-6)


def policies(network):
    channels = [choice.channels for choice in network.choices]
    torch.manual_seed(2)
    return [
        RecurrentGate(channels, initial_bias=0.0),
        ConvolutionalGates(channels, "I", initial_bias=0.0),
        ConvolutionalGates(channels, "II", initial_bias=0.0),
    ]


@pytest.mark.parametrize("index", range(3))
def test_gates_that_look_at_features_choose_the_paths_of_the_masked_reference(network, index):
    policy: PathPolicy = policies(network)[index].eval()
    images = torch.randn(32, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 3
    outcome = Executor(network, policy).run(images)
    assert len(outcome.paths.unique(dim=0)) > 1
    state, seen = policy.begin(images), []

    def decide(d, x):
        nonlocal state
        logits, state = policy.step(d, x, state)
        seen.append(logits.argmax(dim=1))
        return nn.functional.one_hot(seen[-1], 2)

    with torch.inference_mode():
        reference = network.blend(images, decide)
    assert torch.equal(torch.stack(seen, dim=1), outcome.paths)
    torch.testing.assert_close(outcome.logits, reference, rtol=1e-5, atol=1e-6)


def test_a_price_makes_paths_cheaper_and_an_endless_one_skips_everything(network):
    policy = policies(network)[0].eval()
    images = torch.randn(16, 3, SIZE, SIZE)
    kept = [Executor(network, policy, price).run(images).paths.sum().item() for price in (-1e9, 0.0, 0.2, 1e9)]
    assert kept[0] == 6 * 16
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 0


def test_costs_add_up(network):
    policy = OneShotPolicy(FixedPaths(torch.ones(4, 6)))
    costs = PathCosts.count(network, policy, torch.randn(1, 3, SIZE, SIZE))
    assert costs.policy == 0
    whole = torch.ones(1, 6, dtype=torch.int64)
    assert costs.of(whole).item() == costs.dense
    assert (costs.of(0 * whole) < costs.dense / 2).all()
