"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28 grey pixels, ten classes.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017,
https://arxiv.org/abs/1708.07747. MIT licence.
"""

import gzip
import io
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cascade.datasets.cifar10 import Arrays
from cascade.datasets.download import download
from cascade.errors import DataError

__all__ = ["FASHION_MNIST_CLASSES", "fetch_fashion_mnist"]

FASHION_MNIST_CLASSES = (
    "t-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
OFFICIAL_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
PACKAGE = "dataset-fashion-mnist"
PACKAGE_TIMEOUT_S = 600.0
FILES = {
    "train_rows": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_rows": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def fetch_fashion_mnist(folder: Path, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:
    """Fetches the data set from its official source, else from the Debian package, installed or downloaded.

    Args:
        folder: for the archives, which are deleted after they have been read.
        on_bytes: called with (bytes so far, bytes in total) of the download.
        on_note: called with a sentence when the source changes.

    Returns:
        "train_rows" (60000, 28, 28) and "test_rows" (10000, 28, 28) uint8; "train_labels" and "test_labels" int64.

    Raises:
        DataError: no source can be reached, or an archive is damaged.
    """
    try:
        contents = _official(folder, on_bytes)
    except DataError as official_error:
        on_note(f"The official source does not answer; reading the Debian package {PACKAGE} (31 MB).")
        try:
            contents = _packaged(folder)
        except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError) as error:
            reason = getattr(error, "stderr", None) or error
            raise DataError(
                f"Fashion-MNIST cannot be fetched. {official_error}. The Debian package {PACKAGE} cannot be read: "
                f"{str(reason).strip()}. Install it (apt-get install {PACKAGE}) or try again with a network"
            ) from error
    try:
        arrays = {name: _idx(gzip.decompress(content)) for name, content in contents.items()}
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"a file of Fashion-MNIST is damaged ({error}); run the command again") from error
    return {name: array.astype(np.int64) if "labels" in name else array for name, array in arrays.items()}


def _official(folder: Path, on_bytes: Callable[[int, int], None]) -> dict[str, bytes]:
    contents = {}
    for name, file in FILES.items():
        path = download(f"{OFFICIAL_URL}/{file}", folder / file, on_bytes)
        contents[name] = path.read_bytes()
        path.unlink()
    return contents


def _packaged(folder: Path) -> dict[str, bytes]:
    """The files of the installed Debian package, else of its archive from the package source."""

    def run(*command: str) -> bytes:
        program = shutil.which(command[0])
        if program is None:
            raise FileNotFoundError(f"{command[0]} is not installed")
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, check=True, capture_output=True, timeout=PACKAGE_TIMEOUT_S
        )
        return done.stdout

    try:
        listed = [Path(line) for line in run("dpkg", "-L", PACKAGE).decode().splitlines()]
        return {name: next(path for path in listed if path.name == file).read_bytes() for name, file in FILES.items()}
    except (OSError, subprocess.SubprocessError, StopIteration):
        run("apt-get", "download", "-q", PACKAGE)
    (archive,) = folder.glob(f"{PACKAGE}_*.deb")
    with tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--fsys-tarfile", str(archive.resolve())))) as tar:
        members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
        files = {name: tar.extractfile(members[file]) for name, file in FILES.items()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    archive.unlink()
    return contents


def _idx(content: bytes) -> np.ndarray:
    """An array in IDX format: two zero bytes, type 8 (uint8), number of axes, lengths, values."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("it is not an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
