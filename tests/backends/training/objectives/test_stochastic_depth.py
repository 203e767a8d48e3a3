import pytest
import torch
from torch import nn
from torch.nn import functional

from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.training.objectives import StochasticDepth
from cascade.errors import ConfigError


@pytest.fixture
def deep(settled):
    network = CifarResNet(depth=20, width=4, classes=3)
    settled(network, 8)
    return network


def ran(network, objective, batch, done=0.0):
    """Indices of the blocks that a step computed."""
    seen = []
    hooks = [b.register_forward_hook(lambda *_, i=i: seen.append(i)) for i, b in enumerate(network.blocks)]
    objective.loss(network, batch, done)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_loss_is_that_of_the_network_without_the_dropped_blocks(deep, batch):
    deep.eval()
    torch.manual_seed(4)
    loss = StochasticDepth(drop=0.9).loss(deep, batch, 0.0)
    torch.manual_seed(4)
    kept = ran(deep, StochasticDepth(drop=0.9), batch)
    assert len(kept) < 9
    features = nn.Sequential(*(deep.blocks[i] for i in kept))(deep.stem(batch.images))
    torch.testing.assert_close(loss, functional.cross_entropy(deep.classify(features), batch.labels))


def test_the_drop_probability_rises_linearly_and_blocks_that_change_the_shape_always_run(deep, batch):
    deep.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        counts = torch.zeros(9)
        for _ in range(600):
            counts[ran(deep, StochasticDepth(drop=0.8), batch)] += 1
    expected = 1 - 0.8 * torch.arange(1, 10) / 9
    expected[[3, 6]] = 1.0
    torch.testing.assert_close(counts / 600, expected, rtol=0, atol=0.07)


def test_the_schedule_ends_with_the_whole_network(deep, batch):
    falling = StochasticDepth(drop={"start": 1.0, "end": 0.0, "until": 0.5})
    assert ran(deep, falling, batch, done=0.5) == list(range(9))


def test_dropped_blocks_get_no_gradient(deep, batch):
    objective = StochasticDepth(drop=1.0)
    objective.prepare(deep)
    assert deep.training
    objective.loss(deep, batch, 0.0).backward()
    assert deep.blocks[-1].residual[0].weight.grad is None
    assert deep.blocks[3].residual[0].weight.grad is not None


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ConfigError, match="Linear has none"):
        StochasticDepth().prepare(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"between 0 and 1.*1\.5"):
        StochasticDepth(drop=1.5)
