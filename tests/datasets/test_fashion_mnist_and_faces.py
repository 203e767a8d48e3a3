"""Fashion-MNIST from its official source or the Debian package, and the faces of scikit-image; no network."""

import gzip
import io
import tarfile
import types

import numpy as np
import pytest

from cascade import datasets
from cascade.datasets import faces, fashion_mnist
from cascade.errors import DataError

ARRAYS = {
    name: np.arange(3 * (16 if "rows" in name else 1), dtype=np.uint8).reshape((3, 4, 4) if "rows" in name else (3,))
    for name in fashion_mnist.FILES
}


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def official(url, target, on_bytes):
    (name,) = (name for name, file in fashion_mnist.FILES.items() if url.endswith(file))
    target.write_bytes(idx(ARRAYS[name]))
    return target


def unreachable(url, target, on_bytes):
    raise DataError("no network")


def fetched(folder, notes=None):
    return fashion_mnist.fetch_fashion_mnist(folder, lambda *_: None, ([] if notes is None else notes).append)


def check(arrays):
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == (np.int64 if "labels" in name else np.uint8)


def test_the_official_source_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "download", official)
    check(fetched(tmp_path))
    assert list(tmp_path.iterdir()) == []


def fake_run(installed, folder):
    def run(command, **options):
        name = command[0].rpartition("/")[2]
        if name == "dpkg" and installed is not None:
            return types.SimpleNamespace(stdout="\n".join(map(str, sorted(installed.iterdir()))).encode())
        if name == "apt-get":
            (folder / "dataset-fashion-mnist_1_all.deb").touch()
            return types.SimpleNamespace(stdout=b"")
        if name == "dpkg-deb":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for key, file in fashion_mnist.FILES.items():
                    content = idx(ARRAYS[key])
                    member = tarfile.TarInfo(f"./usr/share/{file}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            return types.SimpleNamespace(stdout=buffer.getvalue())
        raise OSError("not installed")

    return run


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_debian_package_is_next(tmp_path, monkeypatch, is_installed):
    installed, folder = tmp_path / "installed", tmp_path / "cache"
    installed.mkdir()
    folder.mkdir()
    for key, file in fashion_mnist.FILES.items():
        (installed / file).write_bytes(idx(ARRAYS[key]))
    monkeypatch.setattr(fashion_mnist, "download", unreachable)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(fashion_mnist.subprocess, "run", fake_run(installed if is_installed else None, folder))
    notes = []
    check(fetched(folder, notes))
    assert "Debian package" in notes[0]
    assert list(folder.iterdir()) == []


def test_without_any_source_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "download", unreachable)
    monkeypatch.setattr(fashion_mnist.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match=r"no network.*apt-get install dataset-fashion-mnist"):
        fetched(tmp_path)


@pytest.mark.parametrize("content", [b"", gzip.compress(b"abc"), idx(ARRAYS["test_rows"])[:-3], b"plain"], ids=len)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, content):
    def damaged(url, target, on_bytes):
        target.write_bytes(content)
        return target

    monkeypatch.setattr(fashion_mnist, "download", damaged)
    with pytest.raises(DataError, match="damaged"):
        fetched(tmp_path)


def test_faces_come_from_scikit_image(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))
    datasets.fetch("faces")
    rows, labels = datasets.load("faces", "train")
    assert (rows.shape, rows.dtype, labels.tolist()) == ((200, 25, 25), np.uint8, [1] * 100 + [0] * 100)
    with pytest.raises(DataError, match="faces has no test split"):
        datasets.load("faces", "test")


def test_without_scikit_image_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"idk-cascade\[vision\]"):
        faces.fetch_faces(tmp_path, print, print)
