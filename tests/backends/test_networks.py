"""Networks: folding keeps the function, and operations equal a count by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cascade.backends.config import TorchConfig
from cascade.backends.files.weights import save_weights
from cascade.backends.networks.big_little import BigLittle
from cascade.backends.networks.efficientnet import EfficientNetLite
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.mobilenet import MobileNetV2
from cascade.backends.networks.packing import can_pack, pack_convolutions
from cascade.backends.networks.resnet import CifarResNet
from cascade.backends.torch_backend import TorchBackend

NETWORKS = {
    "resnet": (lambda: CifarResNet(depth=14, width=8), 32),
    "half": (lambda: CifarResNet(depth=8, width=12, stem_stride=2), 32),
    "efficientnet": (lambda: EfficientNetLite(resolution=32), 24),
    "mobilenet": (lambda: MobileNetV2(resolution=32), 24),
    "big-little": (lambda: BigLittle(width=4), 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_norms_give_the_same_output(name, settled):
    torch.manual_seed(0)
    build, size = NETWORKS[name]
    network = settled(build(), size)
    images = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = network(images)
        convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
        assert fold_norms(network) is network
        after = network(images)
    scale = before.abs().max()
    assert before.shape == (5, 10)
    assert scale > 1e-2
    torch.testing.assert_close(after / scale, before / scale, atol=1e-4, rtol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions


def test_folded_networks_can_be_trained(settled):
    torch.manual_seed(0)
    network = fold_norms(settled(CifarResNet(depth=8, width=4), 16))
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    parameters = dict(network.named_parameters())
    assert "stem.0.bias" in parameters
    assert all(parameter.grad is not None for parameter in parameters.values())


def test_efficientnet_is_the_published_lite0():
    # 4,652,008 parameters with 1000 classes, https://github.com/tensorflow/tpu (models/official/efficientnet/lite)
    network = EfficientNetLite(classes=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


def test_mobilenet_is_the_published_one():
    # 3,504,872 parameters with 1000 classes (torchvision), and the 300 million multiply-adds of Table 4 at 224 pixels
    network = MobileNetV2(classes=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_504_872
    with FlopCounterMode(display=False) as counter:
        network.to("meta").eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(300.8e6, rel=1e-3)


def test_a_new_big_little_net_is_its_little_branches_and_every_branch_learns():
    torch.manual_seed(0)
    network = BigLittle(width=4, little=(1, 1), big=(2, 1), tail=1)
    images = torch.randn(4, 3, 16, 16)
    network.eval()
    with torch.no_grad():
        x = network.stem(images)
        for stage in network.stages:
            x = stage.last(stage.little(x))
        torch.testing.assert_close(network(images), network.head(network.tail(x).mean(dim=(2, 3))))
    for stage in network.stages:
        nn.init.ones_(stage.narrow[1].weight)
    network.train()(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.skipif(not can_pack(), reason="no oneDNN library (extra onednn)")
@pytest.mark.parametrize("rows", [1, 5])
def test_a_packed_big_little_net_computes_the_same(rows, settled):
    torch.manual_seed(0)
    network = fold_norms(settled(BigLittle(width=4), 16).requires_grad_(False))
    images = torch.randn(rows, 3, 16, 16)
    wanted = network(images)
    torch.testing.assert_close(pack_convolutions(network)(images), wanted, rtol=1e-3, atol=1e-4)


# Multiply-adds of a 32x32 image: stem, then each group's convolutions and its shortcut, then the last layer.
BY_HAND = {
    8: 27 * 16 * 32**2
    + 2 * 9 * 16**2 * 32**2
    + (9 * 16 * 32 + 9 * 32**2 + 16 * 32) * 16**2
    + (9 * 32 * 64 + 9 * 64**2 + 32 * 64) * 8**2
    + 640,
    32: 27 * 16 * 32**2
    + 10 * 9 * 16**2 * 32**2
    + (9 * 16 * 32 + 9 * 9 * 32**2 + 16 * 32) * 16**2
    + (9 * 32 * 64 + 9 * 9 * 64**2 + 32 * 64) * 8**2
    + 640,
}


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("depth", [8, 32])
def test_flops_of_the_resnets_against_a_count_by_hand(depth, fold, tmp_path):
    save_weights(tmp_path / "w.safetensors", CifarResNet(depth=depth), {})
    config = TorchConfig(
        type="torch",
        network="cascade.backends.networks.resnet:CifarResNet",
        arguments={"depth": depth},
        weights=tmp_path / "w.safetensors",
        fold_norms=fold,
    )
    rows = torch.zeros(2, 3, 32, 32).numpy()
    assert TorchBackend(config).flops_per_row(rows) == 2 * BY_HAND[depth]


@pytest.mark.parametrize("depth", [2, 7, 9, 31])
def test_a_depth_that_no_resnet_has_is_refused(depth):
    with pytest.raises(ValueError, match="6n \\+ 2"):
        CifarResNet(depth=depth)
