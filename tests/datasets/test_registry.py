"""Data sets in the cache: fetched once, verified, loaded without a network."""

import hashlib

import numpy as np
import pytest

from cascade import datasets
from cascade.datasets.registry import Dataset
from cascade.errors import DataError

ARRAYS = {
    "train_rows": np.arange(24, dtype=np.uint8).reshape(4, 3, 2),
    "train_labels": np.arange(4),
    "test_rows": np.arange(12, dtype=np.uint8).reshape(2, 3, 2),
    "test_labels": np.arange(2),
}
DIGESTS = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in ARRAYS.items()}


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Registers the data set "toy", whose fetching is recorded, with a cache of its own."""
    calls = []

    def fetch(folder, on_bytes, on_note):
        calls.append(folder)
        on_bytes(5, 10)
        on_note("a note")
        return ARRAYS

    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(datasets.DATASETS, "toy", Dataset("toy", fetch, DIGESTS))
    return calls


def test_fetched_data_is_loaded_and_not_fetched_again(calls, tmp_path):
    progress = []
    folder = datasets.fetch("toy", on_bytes=lambda *a: progress.append(a), on_note=progress.append)
    assert folder == tmp_path / "cache" / "toy"
    assert progress == [(5, 10), "a note"]
    assert datasets.fetch("toy") == folder
    assert calls == [folder]
    for split in ("train", "test"):
        loaded = datasets.load("toy", split)
        np.testing.assert_array_equal(loaded.rows, ARRAYS[f"{split}_rows"])
        np.testing.assert_array_equal(loaded.labels, ARRAYS[f"{split}_labels"])
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.npy" for name in ARRAYS)


def test_a_missing_array_is_fetched_again(calls, tmp_path):
    folder = datasets.fetch("toy")
    (folder / "test_rows.npy").unlink()
    datasets.fetch("toy")
    assert len(calls) == 2
    assert len(datasets.load("toy", "test").rows) == 2


def test_content_with_another_digest_is_refused_and_not_kept(calls, monkeypatch, tmp_path):
    changed = ARRAYS | {"test_labels": np.array([1, 0])}
    monkeypatch.setitem(datasets.DATASETS, "toy", Dataset("toy", lambda *a: changed, DIGESTS))
    with pytest.raises(DataError, match="test_labels has SHA-256"):
        datasets.fetch("toy")
    assert list((tmp_path / "cache" / "toy").iterdir()) == []
    with pytest.raises(DataError, match="'cascade data toy'"):
        datasets.load("toy", "test")


def test_loading_never_fetches_and_names_the_remedy(calls):
    with pytest.raises(DataError, match="run 'cascade data toy' once"):
        datasets.load("toy", "train")
    assert calls == []


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00\x10\x00"])
def test_the_message_about_a_damaged_cache_names_what_to_delete(calls, content):
    folder = datasets.fetch("toy")
    (folder / "test_rows.npy").write_bytes(content)
    with pytest.raises(DataError, match=f"delete {folder}"):
        datasets.load("toy", "test")


def test_objects_in_the_cache_are_never_unpickled(calls):
    folder = datasets.fetch("toy")
    np.save(folder / "test_rows.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        datasets.load("toy", "test")


@pytest.mark.parametrize("call", [datasets.fetch, lambda name: datasets.load(name, "test")])
def test_an_unknown_name_lists_the_known_ones(call):
    with pytest.raises(
        DataError, match=r"choose one of \['cifar10', 'clips', 'faces', 'fashion_mnist', 'gestures', 'shapes'\]"
    ):
        call("mnist")


def test_the_environment_sets_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path))
    assert datasets.cache_folder() == tmp_path
    monkeypatch.delenv("IDK_CASCADE_CACHE")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(datasets.cache_folder()) == "/somewhere/.cache/idk-cascade"
