"""The known data sets: fetching, verifying, loading."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from cascade.datasets.cifar10 import Arrays, fetch_cifar10
from cascade.datasets.clips import make_clips
from cascade.datasets.faces import fetch_faces
from cascade.datasets.fashion_mnist import fetch_fashion_mnist
from cascade.datasets.gestures import fetch_gestures
from cascade.datasets.parts import read_parts, write_parts
from cascade.datasets.shapes import make_shapes
from cascade.errors import DataError

__all__ = ["DATASETS", "Dataset", "Split", "cache_folder", "fetch", "load", "load_array", "pack"]


class Split(NamedTuple):
    """Rows and labels.

    Attributes:
        rows: (n, ...) array.
        labels: (n,) int64.
    """

    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """How a data set is fetched and verified.

    Attributes:
        name: folder in the cache.
        fetch: (folder, on_bytes, on_note) -> arrays by name.
        sha256: digest of the bytes of each array.
    """

    name: str
    fetch: Callable[[Path, Callable[[int, int], None], Callable[[str], None]], Arrays]
    sha256: dict[str, str]


def _clips(_folder: Path, on_bytes: Callable[[int, int], None], on_note: Callable[[str], None]) -> Arrays:
    fetch("cifar10", on_bytes, on_note)
    images = {key: load_array("cifar10", key) for key in DATASETS["cifar10"].sha256}
    return make_clips(images, on_bytes, on_note)


DATASETS = {
    "cifar10": Dataset(
        "cifar10",
        fetch_cifar10,
        {
            "train_rows": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
            "train_labels": "f5cfe00b0f00968c0cc5ff3b1d2de51b10e33efa277c2986f4e0fa63e58c9f4f",
            "test_rows": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
            "test_labels": "cbb7365de8ed11f05cc4c3a1e7f78144127c5e851efd83762fb18202461230bb",
        },
    ),
    "clips": Dataset(
        "clips",
        _clips,
        {
            "train_rows": "139e855586421981c224b442bbba41385315b505f531fb2940db79e9d6557d70",
            "train_labels": "c9aa60007a6266d0281e3e99ef84eb0a93ab9d64d1c32f81d3e040f07559aa7b",
            "test_rows": "6443442d2b83823223823b0a05f4bb1d3024f3f8d5062d8d56c2352d289302e9",
            "test_labels": "bfa4456a208773a3ce0dfa3f105c41f30e5c3feda7de4adbc7da02ea6bb63989",
        },
    ),
    "faces": Dataset(
        "faces",
        fetch_faces,
        {
            "train_rows": "4621670220ef7f4ca9261a20601e1aaa9d7d4275b6535ce42cd1abed1b185953",
            "train_labels": "392f88bb0676fdbaa5d7c13539cfd52cb83758245c2b6e909858d7eeecaac3d4",
        },
    ),
    "fashion_mnist": Dataset(
        "fashion_mnist",
        fetch_fashion_mnist,
        {
            "train_rows": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train_labels": "e3245b63f7c40d1c8b652835f19744d970c1613b40ddac6bcfc87b9c46e16a0b",
            "test_rows": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test_labels": "d51d859896c55775b9e9e219b77ff03bcec1b6ac322f313544dc3f9e7bc94fae",
        },
    ),
    "gestures": Dataset(
        "gestures",
        fetch_gestures,
        {
            "train_rows": "294c267aed86c12e93102ad91443b52fdbe57f705b5660de876560db603ea674",
            "train_labels": "0f5f1a704db9f9371b191ae3a134c8e7bdc193e9ccd611c47ec5dc9007733b2c",
            "train_subjects": "84d33dfd18f592e6e6ac1665124df288ff3b187679b5195214d664ae1e371ae1",
            "test_rows": "fd3267ada7ea19ca5950a2217352843941830755e15ed2b2cdff97440801a9e4",
            "test_labels": "420ea7bb2db07de045bcc4b189693ffdefea50c269eaaef2efc1f3821b1c7cac",
            "test_subjects": "fc3eaed15ceceadd0755fad0a9cb28751e528682cd2504e053ce6b111409d23b",
        },
    ),
    "shapes": Dataset(
        "shapes",
        make_shapes,
        {
            "train_rows": "5a4395a23ab5476bd528c5f79b16f792707634f0b318aa8306efaebc4de50dd7",
            "train_labels": "76daa6ac455af9bec05a7796485a1159f87455a063a92ef6bd0e1560e9f55953",
            "test_rows": "91bb45f52ff25da16b987a3148c4eba27513a63fccb4086bbbbf0553341a5843",
            "test_labels": "0fe19fd81ccc3d74a6add399e40864638c4ec60a4997dac949d54c4095054e86",
        },
    ),
}


def cache_folder() -> Path:
    """The folder of fetched files: ``IDK_CASCADE_CACHE``, or ``~/.cache/idk-cascade``; not created here."""
    return Path(os.environ.get("IDK_CASCADE_CACHE") or Path.home() / ".cache" / "idk-cascade")


def fetch(
    name: str,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
    on_note: Callable[[str], None] = lambda note: None,
    parts: Path | None = None,
) -> Path:
    """Makes sure that a data set is in the cache.

    Args:
        name: one of ``DATASETS``.
        on_bytes: called with (bytes so far, bytes in total) of the download.
        on_note: called with a sentence about progress.
        parts: folder of its parts (:func:`pack`), which are read instead of a download.

    Returns:
        The folder of its arrays.

    Raises:
        DataError: the name is unknown, no source can be reached, a part is missing or damaged, or the arrays have
            another digest.
    """
    dataset = _dataset(name)
    folder = cache_folder() / dataset.name
    if all((folder / f"{key}.npy").exists() for key in dataset.sha256):
        if parts is not None:
            on_note(f"{name} is in {folder} already, so its parts in {parts} are not read.")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dataset.fetch(folder, on_bytes, on_note) if parts is None else read_parts(name, parts)
    if missing := dataset.sha256.keys() - arrays.keys():
        raise DataError(f"{name}: the source has no {', '.join(sorted(missing))}")
    for key, digest in dataset.sha256.items():
        found = hashlib.sha256(np.ascontiguousarray(arrays[key]).tobytes()).hexdigest()
        if found != digest:
            raise DataError(f"{name}: {key} has SHA-256 {found}, not {digest}; the source has changed")
    for key in dataset.sha256:
        partial = folder / f"{key}.partial.npy"
        np.save(partial, arrays[key], allow_pickle=False)
        partial.replace(folder / f"{key}.npy")
    return folder


def pack(name: str, folder: Path) -> list[Path]:
    """Writes a data set that is in the cache as parts of less than 45 MB, for a machine without a network.

    Args:
        name: one of ``DATASETS``.
        folder: for the parts.

    Returns:
        The files.

    Raises:
        DataError: the data set is not in the cache, or is damaged there.
    """
    return write_parts(name, {key: load_array(name, key) for key in _dataset(name).sha256}, folder)


def load(name: str, split: Literal["train", "test"]) -> Split:
    """Loads a fetched data set; never fetches.

    Args:
        name: one of ``DATASETS``.
        split: "train" or "test".

    Raises:
        DataError: it is not in the cache or is damaged there, or has no such split.
    """
    if f"{split}_rows" not in _dataset(name).sha256:
        raise DataError(f"{name} has no {split} split")
    return Split(load_array(name, f"{split}_rows"), load_array(name, f"{split}_labels"))


def load_array(name: str, key: str) -> np.ndarray:
    """Loads one array of a fetched data set, such as "train_subjects" of the gestures; never fetches.

    Args:
        name: one of ``DATASETS``.
        key: a key of its ``sha256``.

    Raises:
        DataError: the data set has no such array, is not in the cache, or is damaged there.
    """
    dataset = _dataset(name)
    folder = cache_folder() / dataset.name
    if key not in dataset.sha256:
        raise DataError(f"{name} has no array {key!r}; it has {sorted(dataset.sha256)}")
    try:
        array: np.ndarray = np.load(folder / f"{key}.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{name} is not in {folder}; run 'cascade data {name}' once (it needs the network)") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name} is damaged ({error}); delete {folder} and run 'cascade data {name}'") from error
    return array


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is not known; choose one of {sorted(DATASETS)}")
    return DATASETS[name]
