"""The executor of CUDA graphs computes what the masked reference does; without CUDA, by the same steps."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from cascade.backends.dynamic import graph_executor
from cascade.backends.dynamic.executor import Executor
from cascade.backends.dynamic.gates import OneShotPolicy, RecurrentGate
from cascade.backends.dynamic.graph_executor import GraphExecutor, bucket
from cascade.backends.dynamic.site_network import skippable
from cascade.backends.networks.image_resnet import ImageResNet
from cascade.backends.networks.resnet import CifarResNet

SIZE = 8
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


class GivenPaths(nn.Module):
    """A policy network that returns the bits it was given last, for any input."""

    def __init__(self, blocks):
        super().__init__()
        self.register_buffer("paths", torch.zeros(64, blocks))

    def forward(self, images):
        return self.paths[: len(images)] * 2 - 1


@pytest.fixture(scope="module", params=["cpu", CUDA])
def device(request):
    return torch.device(request.param)


@pytest.fixture(scope="module")
def network(settled, device):
    torch.manual_seed(0)
    return skippable(settled(CifarResNet(depth=14, width=4, classes=3), SIZE).to(device))


@pytest.fixture(scope="module")
def executor(network, device):
    """One executor for all tests: a batch must not influence the next one."""
    return GraphExecutor(network, OneShotPolicy(GivenPaths(len(network.sites))).to(device))


@pytest.fixture(autouse=True)
def warm_up(monkeypatch):
    """Without a capture, which a processor cannot do; the warm-up calls are made all the same."""
    replayable = graph_executor.replayable

    def called_before(function, device, pool=None):
        for _ in range(graph_executor.WARM_UP_CALLS):
            function()
        return replayable(function, device, pool)

    monkeypatch.setattr(graph_executor, "replayable", called_before)


def check(executor, network, device, paths, size=SIZE):
    images = (torch.randn(len(paths), 3, size, size) * 2).contiguous(memory_format=torch.channels_last).to(device)
    executor.policy.network.paths[: len(paths)] = paths.float()
    outcome = executor.run(images)
    assert torch.equal(outcome.paths, paths)
    with torch.inference_mode():
        wanted = network.blend(images, lambda d, _: nn.functional.one_hot(paths[:, d].to(device), 2))
    torch.testing.assert_close(outcome.logits, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.tuples(*[st.integers(0, 1)] * 6), min_size=1, max_size=40))
def test_batches_of_any_paths_give_the_numbers_of_the_masked_reference(executor, network, device, paths):
    check(executor, network, device, torch.tensor(paths))


def test_a_big_network(settled, device):
    torch.manual_seed(3)
    network = skippable(settled(ImageResNet(depth=50, classes=5), 64).to(device))
    executor = GraphExecutor(network, OneShotPolicy(GivenPaths(len(network.sites))).to(device))
    for rows in (1, 5):
        check(executor, network, device, (torch.rand(rows, len(network.sites)) < 0.5).long(), 64)


def test_it_equals_the_executor_without_graphs(network, device):
    torch.manual_seed(1)
    policy = OneShotPolicy(CifarResNet(depth=8, width=4, classes=6)).eval().to(device)
    images = torch.randn(11, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last).to(device)
    for price in (0.0, 0.3, -1e9, 1e9):
        wanted = Executor(network, policy, price).run(images)
        found = GraphExecutor(network, policy, price).run(images)
        assert torch.equal(found.paths, wanted.paths)
        torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)


def test_no_rows_give_no_answers(executor, device):
    outcome = executor.run(torch.zeros(0, 3, SIZE, SIZE, device=device))
    assert outcome.logits.shape == (0, 3)
    assert outcome.paths.shape == (0, 6)


def test_a_row_of_nan_leaves_the_others_alone(executor, network, device):
    images = torch.randn(6, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last).to(device)
    executor.policy.network.paths.fill_(1)
    clean = executor.run(images).logits
    images[2] = torch.nan
    found = executor.run(images).logits
    assert found[2].isnan().all()
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(found[others], clean[others])
    check(executor, network, device, torch.ones(6, 6, dtype=torch.int64))


def test_gates_inside_the_network_are_refused(network):
    with pytest.raises(ValueError, match="decides from the image alone"):
        GraphExecutor(network, RecurrentGate([site.channels for site in network.sites]))


def test_buckets_waste_at_most_half():
    found = [bucket(rows) for rows in range(1, 300)]
    assert all(rows <= size <= 1.5 * rows for rows, size in enumerate(found, start=1))
    assert sorted(set(found)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384]
