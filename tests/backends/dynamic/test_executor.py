"""The executor computes what the masked reference does, for every path."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.gates import ConvolutionalGates, OneShotPolicy, PathPolicy, RecurrentGate
from cascade.backends.dynamic.path_costs import PathCosts
from cascade.backends.dynamic.site_network import SiteNetwork, skippable
from cascade.backends.dynamic.sites import PickOne
from cascade.backends.dynamic.sites.skip import DENSE_SHARE
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.image_resnet import ImageResNet
from cascade.backends.networks.packing import can_pack, pack_convolutions
from cascade.backends.networks.resnet import CifarResNet

SIZE = 8


class FixedPaths(nn.Module):
    """A policy network that returns given bits for any input."""

    def __init__(self, paths):
        super().__init__()
        self.paths = paths

    def forward(self, images):
        return self.paths[: len(images)].float() * 2 - 1


@pytest.fixture(scope="module")
def network(settled):
    torch.manual_seed(0)
    return skippable(settled(CifarResNet(depth=14, width=4, classes=3), SIZE))


def images_of(rows, size=SIZE, seed=1):
    images = torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2
    return images.contiguous(memory_format=torch.channels_last)


def masked(network, images, paths):
    """The reference: every block is computed, and its output is masked."""
    with torch.inference_mode():
        return network.blend(images, lambda d, _: nn.functional.one_hot(paths[:, d], 2))


def run(network, images, paths):
    outcome = Executor(network, OneShotPolicy(FixedPaths(paths))).run(images)
    assert torch.equal(outcome.paths, paths)
    return outcome.logits


def close(logits, reference):
    torch.testing.assert_close(logits, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


ALL_PATHS = torch.tensor(list(itertools.product([0, 1], repeat=6)))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_every_path_of_a_small_network_gives_the_numbers_of_the_masked_reference(network, memory_format):
    images = images_of(len(ALL_PATHS)).contiguous(memory_format=memory_format)
    reference = masked(network, images, ALL_PATHS)
    assert len(reference.unique(dim=0)) == len(reference), "paths make no difference"
    close(run(network, images, ALL_PATHS), reference)
    for row in range(len(ALL_PATHS)):
        one = slice(row, row + 1)
        close(run(network, images[one], ALL_PATHS[one]), reference[one])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.tuples(*[st.integers(0, 1)] * 6), min_size=1, max_size=30))
def test_a_batch_of_any_paths_gives_the_numbers_of_the_masked_reference(network, paths):
    paths = torch.tensor(paths)
    images = images_of(len(paths), seed=4)
    close(run(network, images, paths), masked(network, images, paths))


@pytest.mark.parametrize("kept", [0, 1, 19, 20])
def test_blocks_that_nearly_all_rows_run_are_computed_for_all(network, kept):
    assert DENSE_SHARE <= 19 / 20
    paths = (torch.arange(20) < kept).long()[:, None].expand(20, 6).contiguous()
    images = images_of(20)
    close(run(network, images, paths), masked(network, images, paths))


def big_networks():
    return {
        "cifar110": (CifarResNet(depth=110, width=4), 16),
        "image50": (ImageResNet(depth=50, classes=5), 64),
        "image10": (ImageResNet(depth=10, classes=5, shrink=2), 64),
    }


@pytest.mark.parametrize("name", big_networks())
def test_random_paths_of_big_networks_give_the_numbers_of_the_masked_reference(settled, name):
    torch.manual_seed(3)
    base, size = big_networks()[name]
    network = skippable(settled(base, size))
    paths = (torch.rand(6, len(network.sites)) < 0.5).long()
    images = images_of(6, size)
    reference = masked(network, images, paths)
    close(run(network, images, paths), reference)
    if can_pack():
        packed = skippable(pack_convolutions(fold_norms(base.requires_grad_(False))))
        torch.testing.assert_close(run(packed, images, paths), reference, rtol=1e-3, atol=1e-3 * float(reference.std()))


def policies(network):
    channels = [site.channels for site in network.sites]
    torch.manual_seed(2)
    return [
        RecurrentGate(channels, initial_bias=0.0),
        ConvolutionalGates(channels, "I", initial_bias=0.0),
        ConvolutionalGates(channels, "II", initial_bias=0.0),
    ]


def reference_with_gates(network, policy, images):
    """The masked reference of a policy that looks at features: logits, paths, and the smallest margin of a choice."""
    state, seen, margin = policy.begin(images), [], np.inf

    def decide(d, x):
        nonlocal state, margin
        logits, state = policy.step(d, x, state)
        seen.append(logits.argmax(dim=1))
        margin = min(margin, float((logits[:, 0] - logits[:, 1]).abs().min()))
        return nn.functional.one_hot(seen[-1], 2)

    with torch.inference_mode():
        return network.blend(images, decide), torch.stack(seen, dim=1), margin


@pytest.mark.parametrize("index", range(3))
def test_gates_that_look_at_features_choose_the_paths_of_the_masked_reference(network, index):
    policy: PathPolicy = policies(network)[index].eval()
    images = images_of(24, seed=5)
    reference, paths, margin = reference_with_gates(network, policy, images)
    assert margin > 5e-6, "a choice is too close to call"
    assert len(paths.unique(dim=0)) > 1
    executor = Executor(network, policy)
    outcome = executor.run(images)
    assert torch.equal(outcome.paths, paths)
    close(outcome.logits, reference)
    for row in range(8):
        alone = executor.run(images[row : row + 1])
        assert torch.equal(alone.paths, paths[row : row + 1])
        close(alone.logits, reference[row : row + 1])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), hidden=st.integers(1, 12))
def test_the_recurrent_gate_in_numpy_equals_that_in_torch(seed, rows, hidden):
    torch.manual_seed(seed)
    gate = RecurrentGate([4, 4, 8], hidden).eval()
    scorer = gate.scorer()
    images = images_of(rows)
    state, other = gate.begin(images), scorer.begin(images)
    for d, channels in enumerate([4, 4, 8]):
        features = torch.rand(rows, channels, 3, 3) * 3
        with torch.inference_mode():
            logits, state = gate.step(d, features, state)
            scores, other = scorer.step(d, features, other, True)
        np.testing.assert_allclose(scores, logits.numpy(), rtol=1e-5, atol=1e-5)


def test_unchanged_features_are_not_read_again():
    gate = RecurrentGate([4, 4]).eval()
    features = torch.rand(2, 4, 3, 3)
    scorer = gate.scorer()
    _, state = scorer.step(0, features, scorer.begin(features), True)
    same, _ = scorer.step(1, features, state, True)
    unseen, _ = scorer.step(1, torch.full_like(features, torch.nan), state, False)
    np.testing.assert_array_equal(same, unseen)


def test_a_price_makes_paths_cheaper_and_an_endless_one_skips_everything(network):
    policy = policies(network)[0].eval()
    images = images_of(16)
    kept = [Executor(network, policy, price).run(images).paths.sum().item() for price in (-1e9, 0.0, 0.2, 1e9)]
    assert kept[0] == 6 * 16
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 0


def test_a_policy_that_skips_every_block_leaves_the_shortcuts(network):
    paths = torch.zeros(5, 6, dtype=torch.int64)
    images = images_of(5)
    logits = run(network, images, paths)
    close(logits, masked(network, images, paths))
    assert logits.isfinite().all()


@pytest.mark.parametrize("index", [None, 0, 1, 2])
def test_no_rows_give_no_answers(network, index):
    policy = OneShotPolicy(FixedPaths(ALL_PATHS)) if index is None else policies(network)[index].eval()
    outcome = Executor(network, policy).run(images_of(4)[:0])
    assert outcome.logits.shape == (0, 3)
    assert outcome.paths.shape == (0, 6)


@pytest.mark.parametrize("index", range(3))
def test_a_row_of_nan_runs_everything_and_leaves_the_others_alone(network, index):
    policy = policies(network)[index].eval()
    images = images_of(6)
    clean = Executor(network, policy).run(images)
    images[2] = torch.nan
    outcome = Executor(network, policy).run(images)
    others = [0, 1, 3, 4, 5]
    assert outcome.logits[2].isnan().all()
    assert outcome.paths[2].all()
    assert torch.equal(outcome.paths[others], clean.paths[others])
    close(outcome.logits[others], clean.logits[others])


class Scaled(PickOne):
    """Three alternatives without a block: x, 2 x, and 3 x, optionally with twice the channels."""

    alternatives = 3
    channels = 2

    def __init__(self, doubles):
        self.doubles = doubles

    def run(self, alternative, x):
        y = x * (alternative + 1)
        return torch.cat([y, y], dim=1) if self.doubles else y

    def is_identity(self, alternative):
        return alternative == 0 and not self.doubles


@pytest.mark.parametrize("doubles", [False, True])
def test_choices_of_more_than_two_alternatives(doubles):
    class Policy(PathPolicy):
        looks_at_features = False

        def whole(self, images):
            return torch.nn.functional.one_hot(torch.tensor([[0], [1], [2], [2], [0]]), 3).float()

    network = SiteNetwork(lambda images: images.clone(), (Scaled(doubles),), lambda x: x.sum(dim=(1, 2, 3))[:, None])
    images = images_of(5)
    outcome = Executor(network, Policy()).run(images)
    assert outcome.paths[:, 0].tolist() == [0, 1, 2, 2, 0]
    expected = images.sum(dim=(1, 2, 3)) * torch.tensor([1, 2, 3, 3, 1]) * (2 if doubles else 1)
    torch.testing.assert_close(outcome.logits[:, 0], expected, rtol=1e-4, atol=1e-3)


def test_costs_add_up(network):
    policy = OneShotPolicy(FixedPaths(torch.ones(4, 6)))
    costs = PathCosts.count(network, policy, torch.randn(1, 3, SIZE, SIZE))
    assert costs.policy == 0
    whole = torch.ones(1, 6, dtype=torch.int64)
    assert costs.of(whole).item() == costs.dense
    assert (costs.of(0 * whole) < costs.dense / 2).all()
    assert costs.of(whole[:0]).shape == (0,)
