"""Packed convolutions equal PyTorch's, row by row."""

import copy
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from cascade.backends.dynamic.site import Route
from cascade.backends.dynamic.sites import SkipSite, Subset
from cascade.backends.networks import onednn
from cascade.backends.networks.folding import fold_norms
from cascade.backends.networks.packing import PackedBlock, PackedConvolutions, can_pack, pack_convolutions
from cascade.backends.networks.resnet import BasicBlock, CifarResNet

pytestmark = pytest.mark.skipif(not can_pack(), reason="no oneDNN library (extra onednn)")


def images_of(n, channels, height, width, seed=0):
    images = torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))
    return images.contiguous(memory_format=torch.channels_last)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def packed_block(channels=4, out_channels=4, stride=1):
    """A block with settled norms, folded, and the same packed."""
    torch.manual_seed(0)
    plain = nn.Sequential(BasicBlock(channels, out_channels, stride))
    plain(images_of(64, channels, 8, 8))
    fold_norms(plain).requires_grad_(False)
    packed = nn.Sequential(BasicBlock(channels, out_channels, stride))
    fold_norms(packed).load_state_dict(plain.state_dict())
    return plain[0], pack_convolutions(packed)[0]


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 20),
    outputs=st.integers(1, 20),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    relu=st.booleans(),
    bias=st.booleans(),
)
def test_a_convolution_of_any_geometry_is_that_of_pytorch(
    channels, outputs, kernel, stride, padding, dilation, size, relu, bias
):
    torch.manual_seed(1)
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, bias=bias).requires_grad_(False)
    wanted = layer(images_of(2, channels, *size))
    found = PackedConvolutions([(layer, relu)])(images_of(2, channels, *size))
    close(found, wanted.relu() if relu else wanted)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_whole_network_is_that_of_pytorch(settled, memory_format, rows):
    torch.manual_seed(0)
    network = fold_norms(settled(CifarResNet(14, width=4), 16).requires_grad_(False))
    images = images_of(rows, 3, 16, 16).contiguous(memory_format=memory_format)
    wanted = network(images)
    found = pack_convolutions(network)(images)
    assert isinstance(network.stem, PackedConvolutions)
    assert all(isinstance(block, PackedBlock) for block in network.blocks)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (8, 2)])
@pytest.mark.parametrize("rows", [[], [2], [0, 1, 4], [4, 0]])
def test_a_block_runs_some_rows_and_leaves_the_others_alone(out_channels, stride, rows):
    plain, packed = packed_block(4, out_channels, stride)
    images = images_of(5, 4, 8, 8).abs()
    wanted = torch.relu(plain.shortcut(images))
    wanted[rows] = plain(images)[rows]
    found = packed.run_some(images.clone(), rows)
    close(found, wanted)
    if stride == 1:
        others = [row for row in range(5) if row not in rows]
        assert torch.equal(found[others], images[others])


@pytest.mark.parametrize("path", [[[1, 1], [0, 1], [0, 0], [1, 0]], [[1, 0]] * 3, [[0, 1]], [[0, 0]]])
def test_packed_members_of_a_subset_are_added_to_their_rows(path):
    torch.manual_seed(0)

    def member():
        return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False))

    plain = nn.ModuleList([member(), member()]).requires_grad_(False)
    packed = pack_convolutions(copy.deepcopy(plain))
    assert all(isinstance(each, PackedConvolutions) for each in packed)
    images = images_of(len(path), 4, 8, 8)
    taken = np.array(path)
    followed = Subset(list(plain), lambda x: x, torch.relu).follow(images, torch.from_numpy(taken))
    before, site = images.clone(), Subset(list(packed), lambda x: x, torch.relu)
    close(site.take(images, Route.of(taken, 2, images.device)), followed)
    for row, own in enumerate(path):
        close(site.take_one(images[row : row + 1], own), followed[row : row + 1])
    assert torch.equal(images, before)


def test_a_row_gets_the_same_bits_alone_and_in_a_batch():
    _, packed = packed_block()
    images = images_of(6, 4, 8, 8)
    together = packed(images)
    assert all(torch.equal(packed(images[row : row + 1])[0], together[row]) for row in range(6))


def test_a_choice_leaves_its_input_alone_unless_it_may_overwrite_it():
    for geometry in ((4, 4, 1), (4, 8, 2)):
        plain, packed = packed_block(*geometry)
        choice = SkipSite(packed)
        images = images_of(3, 4, 8, 8).abs()
        before = images.clone()
        close(packed(images), plain(before))
        close(choice.run(1, images), plain(before))
        assert torch.equal(images, before)
        close(choice.run_all(1, images), plain(before))


def test_several_sizes_and_numbers_of_threads():
    plain, packed = packed_block()
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for size in ((8, 8), (16, 4), (8, 8)):
                close(packed(images_of(2, 4, *size)), plain(images_of(2, 4, *size)))
    finally:
        torch.set_num_threads(threads)


def test_threads_may_share_a_network():
    _, packed = packed_block()
    batches = [images_of(8, 4, 8, 8, seed) for seed in range(8)]
    wanted = [packed(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert all(map(torch.equal, pool.map(packed, batches), wanted))


def test_what_does_not_fit_is_refused():
    _, packed = packed_block()
    images = images_of(2, 4, 8, 8)
    for wrong in (images_of(2, 5, 8, 8), images.double(), images.bfloat16(), images[0]):
        with pytest.raises(RuntimeError, match="packed convolutions need"):
            packed(wrong)
    for target in (images[:1], images_of(2, 4, 8, 4), images.contiguous()):
        with pytest.raises(RuntimeError, match="the target must be"):
            packed.residual.add_to(target, images, [0])
    for row in (-1, 2):
        with pytest.raises(IndexError, match=r"rows must be in \[0, 2\)"):
            packed.run_some(images, [0, row])


def test_other_layers_stay_as_they_are():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Identity(),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 2, 1),
        nn.ReLU(),
        nn.ReLU(),
    ).requires_grad_(False)
    images = images_of(2, 4, 12, 12)
    wanted = layers(images)
    packed = pack_convolutions(nn.Sequential(layers))[0]
    assert [type(layer).__name__ for layer in packed] == [
        *("Conv2d", "ReLU", "Conv2d", "Conv2d", "MaxPool2d", "PackedConvolutions")
    ]
    close(packed(images), wanted)


def test_without_a_library_there_is_nothing_to_pack_with(monkeypatch):
    monkeypatch.setattr(onednn, "LIBRARY", "libno-such-library.so")
    with pytest.raises(OSError, match="no-such-library"):
        onednn._load()
