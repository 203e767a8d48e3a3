"""A deep residual network that starts as a trained, shallower one."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from cascade.backends.files.weights import load_tensors, read_tensors
from cascade.backends.networks.resnet import CifarResNet
from cascade.errors import ConfigError, WeightsError

__all__ = ["grow_from"]

GROUPS = 3


def grow_from(path: Path, network: nn.Module, without: Collection[str] = (), part: str = "") -> None:
    """Loads the weights of a shallower network; the deeper one computes the same afterwards.

    In each of the three groups the blocks of the file come first. The others keep their random weights, except that the
    last layer of their residuals is zero, so that they return their input (Chen, Goodfellow, Shlens, "Net2Net", ICLR
    2016, https://arxiv.org/abs/1511.05641).

    Args:
        path: weights file of a ``CifarResNet`` of the same width and at most the same depth.
        network: a ``CifarResNet``, changed in place.
        without: dotted names of layers to leave unchanged.
        part: dotted name of the ``CifarResNet`` in the file's network; empty for all of it.

    Raises:
        ConfigError: the network is of another class.
        WeightsError: the file is missing or damaged, its network is deeper, or its tensors do not fit.
    """
    if not isinstance(network, CifarResNet):
        raise ConfigError(f"start_from: only a CifarResNet can grow, not a {type(network).__name__}")
    tensors = read_tensors(path, part)
    shallow = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")}) // GROUPS
    deep = len(network.blocks) // GROUPS
    if not 1 <= shallow <= deep:
        raise WeightsError(f"{path} has {shallow} blocks per group; a network with {deep} cannot grow from it")
    grown = {_in_deeper(key, shallow, deep): value for key, value in tensors.items()}
    new = {f"blocks.{i}" for i in range(len(network.blocks)) if i % deep >= shallow}
    load_tensors(grown, network, {*without, *new}, path)
    for name in new:
        layers = [layer for layer in network.get_submodule(name).residual if list(layer.parameters())]  # type: ignore[union-attr]
        for parameter in layers[-1].parameters():
            torch.nn.init.zeros_(parameter)


def _in_deeper(key: str, shallow: int, deep: int) -> str:
    """The key of a tensor in the deeper network."""
    if not key.startswith("blocks."):
        return key
    _, index, rest = key.split(".", 2)
    group, place = divmod(int(index), shallow)
    return f"blocks.{group * deep + place}.{rest}"
