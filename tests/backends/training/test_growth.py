"""A network that grows from a shallower one computes the same at first, and its new blocks learn."""

import pytest
import torch

from cascade.backends.dynamic.dynamic_network import BlockDrop
from cascade.backends.files.weights import save_weights
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.training.growth import grow_from
from cascade.errors import ConfigError, WeightsError


@pytest.fixture
def shallow(settled):
    torch.manual_seed(1)
    network = CifarResNet(14, 4, classes=3)
    settled(network, 8)
    return network.eval()


@pytest.fixture
def images():
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("depth", [14, 20, 26])
@pytest.mark.parametrize("folded", [False, True])
def test_the_deeper_network_computes_the_same(tmp_path, shallow, images, depth, folded):
    expected = shallow(images)
    deep = CifarResNet(depth, 4, classes=3)
    if folded:
        fold_norms(shallow)
        fold_norms(deep)
    save_weights(tmp_path / "shallow.safetensors", shallow, {})
    grow_from(tmp_path / "shallow.safetensors", deep)
    torch.testing.assert_close(deep.eval()(images), expected, rtol=1e-4, atol=1e-5)


def test_the_new_blocks_learn(tmp_path, shallow, images):
    save_weights(tmp_path / "shallow.safetensors", shallow, {})
    deep = CifarResNet(20, 4, classes=3)
    grow_from(tmp_path / "shallow.safetensors", deep)
    optimizer = torch.optim.SGD(deep.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        deep(images).square().sum().backward()
        optimizer.step()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in deep.blocks[2].residual.parameters())


def test_a_part_grows_from_a_part_and_keeps_the_head_it_has(tmp_path, shallow, images):
    whole = BlockDrop(14, 4, policy_width=4, classes=3)
    whole.base.load_state_dict(shallow.state_dict())
    save_weights(tmp_path / "whole.safetensors", whole, {})
    deep = CifarResNet(20, 4, classes=7)
    head = deep.head.weight.clone()
    grow_from(tmp_path / "whole.safetensors", deep, without=["head"], part="base")
    torch.testing.assert_close(deep.head.weight, head)
    deep.eval()
    features = shallow.blocks(shallow.stem(images))
    torch.testing.assert_close(deep.blocks(deep.stem(images)), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (CifarResNet(8, 4, classes=3), "has 2 blocks per group; a network with 1 cannot grow"),
        (CifarResNet(20, 5, classes=3), "does not fit CifarResNet"),
        (CifarResNet(20, 4, classes=4), "does not fit CifarResNet"),
    ],
    ids=["deeper", "narrower", "fewer classes"],
)
def test_a_file_of_another_network_is_refused(tmp_path, shallow, network, message):
    save_weights(tmp_path / "shallow.safetensors", shallow, {})
    with pytest.raises(WeightsError, match=message):
        grow_from(tmp_path / "shallow.safetensors", network)


def test_files_without_blocks_and_other_classes_are_refused(tmp_path, shallow):
    save_weights(tmp_path / "other.safetensors", torch.nn.Linear(2, 2), {})
    with pytest.raises(WeightsError, match="has 0 blocks per group"):
        grow_from(tmp_path / "other.safetensors", shallow)
    with pytest.raises(ConfigError, match="only a CifarResNet can grow, not a Linear"):
        grow_from(tmp_path / "other.safetensors", torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match="does not exist"):
        grow_from(tmp_path / "missing.safetensors", shallow)
