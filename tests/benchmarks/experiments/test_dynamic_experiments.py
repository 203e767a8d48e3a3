"""The baselines of the experiments on dynamic networks are as described."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from cascade.backends.dynamic.site_network import SiteNetwork, skippable
from cascade.backends.dynamic.sites import PickOne
from cascade.backends.networks.resnet import CifarResNet
from cascade.benchmarks.experiments.networks import dynamic_networks, dynamic_quality, lesion_study


class Add(PickOne):
    """Adds a vector to the features, or does not."""

    alternatives = 2
    channels = 3

    def __init__(self, vector):
        self.vector = torch.tensor(vector)

    def run(self, alternative, x):
        return x + alternative * self.vector[:, None, None]

    def is_identity(self, alternative):
        return alternative == 0


@pytest.fixture
def network():
    """Three classes; the first choice is worth most to class 0, the third is worth nothing."""
    choices = (Add([3.0, 0.0, 0.0]), Add([0.0, 2.0, 0.0]), Add([0.1, 0.1, 0.1]))
    return SiteNetwork(nn.Identity(), choices, lambda x: x.mean(dim=(2, 3)))


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(300, 3, 2, 2, generator=generator)
    return [images[:250], images[250:]], np.where(np.arange(300) % 3 == 0, 1, 0)


def test_accuracy_along_a_path_is_that_of_the_features_it_adds_up(network, rows):
    batches, label = rows
    images = torch.cat(batches)
    for path in itertools.product([0, 1], repeat=3):
        added = sum(bit * choice.vector for bit, choice in zip(path, network.sites, strict=True))
        expected = ((images.mean(dim=(2, 3)) + added).argmax(dim=1).numpy() == label).mean()
        assert dynamic_networks.accuracy_along(network, batches, label, torch.tensor(path)) == pytest.approx(expected)


def test_greedy_deletions_take_the_least_loss_each_time(network, rows):
    batches, label = rows
    order = dynamic_networks.greedy_deletions(network, batches, label)
    assert sorted(order) == [0, 1, 2]
    for k in range(3):
        accuracy = {
            d: dynamic_networks.accuracy_along(
                network, batches, label, dynamic_networks.path_without([*order[:k], d], 3)
            )
            for d in set(range(3)) - set(order[:k])
        }
        assert accuracy[order[k]] == max(accuracy.values())


def test_shuffled_paths_keep_as_many_blocks_a_row_but_others():
    paths = (torch.rand(500, 8, generator=torch.Generator().manual_seed(1)) < 0.4).long()
    found = dynamic_quality.shuffled(paths, torch.Generator().manual_seed(2))
    assert torch.equal(found.sum(dim=1), paths.sum(dim=1))
    assert not torch.equal(found, paths)
    assert found.double().mean(dim=0).max() < 0.5


def test_the_distance_of_orders_is_the_share_of_pairs_that_changed_places():
    assert lesion_study.kendall_distance([0, 1, 2, 3]) == 0
    assert lesion_study.kendall_distance([3, 2, 1, 0]) == 1
    assert lesion_study.kendall_distance([1, 0, 2]) == pytest.approx(1 / 3)


def test_the_best_fixed_path_is_the_best_mixture_of_two_that_costs_as_much(network, rows):
    paths = torch.tensor(list(itertools.product([0, 1], repeat=3)))  # all of them, 1.5 choices taken in the mean
    accuracy = {int(path.sum()): [] for path in paths}
    for path in paths:
        accuracy[int(path.sum())].append(dynamic_networks.accuracy_along(network, *rows, path))
    best = {kept: max(values) for kept, values in accuracy.items()}
    expected = max(
        (1 - s) * best[a] + s * best[b] for a, b, s in ((1, 2, 0.5), (0, 2, 0.75), (1, 3, 0.25), (0, 3, 0.5))
    )
    fixed = dynamic_quality.best_fixed(network, rows, rows, paths)
    assert fixed.mean() == pytest.approx(expected)
    right = np.arange(300) % 2 == 0
    gain = dynamic_quality.baselines(network, rows, rows, paths[:1].expand(300, -1), right, 2, 0)["gain_over_random"]
    empty = dynamic_networks.answers_along(network, rows[0], torch.zeros(3, dtype=torch.int64)) == rows[1]
    assert gain["mean"] == pytest.approx((right - 1.0 * empty).mean())
    assert gain["standard_error"] == pytest.approx((right - 1.0 * empty).std(ddof=1) / 300**0.5)


def test_greedy_deletions_may_stop_early(network, rows):
    assert dynamic_networks.greedy_deletions(network, *rows, 2) == dynamic_networks.greedy_deletions(network, *rows)[:2]


def test_deep_networks_lose_an_eighth_of_their_blocks_at_a_time():
    torch.manual_seed(0)
    network = CifarResNet(depth=110, width=4, classes=3).eval().to(memory_format=torch.channels_last)
    sites = skippable(dynamic_networks.packed_copy(network))
    rows = [torch.randn(20, 3, 8, 8)], np.arange(20) % 3
    order = dynamic_networks.greedy_deletions(sites, *rows, 12)
    for start, together in ((0, 6), (6, 6)):
        before = dynamic_networks.path_without(order[:start], 54)
        found = dynamic_networks.accuracy_without_one_more(sites, *rows, before)
        assert set(found) == set(range(54)) - set(order[:start])
        for d in (0, 17, 53):
            path = dynamic_networks.path_without([*order[:start], d], 54)
            assert d in order[:start] or found[d] == dynamic_networks.accuracy_along(sites, *rows, path)
        gone = [found[d] for d in order[start : start + together]]
        assert gone == sorted(found.values(), reverse=True)[:together]
