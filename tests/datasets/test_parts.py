"""Data sets in parts: what is packed is read back, and what is missing or damaged is named."""

import hashlib
import json

import numpy as np
import pytest

from cascade import datasets
from cascade.datasets.parts import read_parts, write_parts
from cascade.datasets.registry import Dataset
from cascade.errors import DataError

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "train_rows": RANDOM.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8),
    "train_labels": RANDOM.integers(0, 10, 40),
    "test_rows": RANDOM.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8),
    "test_labels": RANDOM.integers(0, 10, 20),
}
DIGESTS = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in ARRAYS.items()}


def no_network(*_):
    raise DataError("no network")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache for the data set "toy", which cannot be downloaded."""
    monkeypatch.setenv("IDK_CASCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(datasets.DATASETS, "toy", Dataset("toy", no_network, DIGESTS))
    return tmp_path / "cache"


@pytest.fixture
def parts(tmp_path):
    write_parts("toy", ARRAYS, tmp_path / "parts", part_bytes=1000)
    return tmp_path / "parts"


def test_parts_are_small_and_hold_the_same_arrays(parts):
    files = sorted(parts.glob("*.part*"))
    assert len(files) > 2
    assert all(file.stat().st_size <= 1000 for file in files)
    found = read_parts("toy", parts)
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


def test_a_machine_without_a_network_reads_what_another_one_packed(cache, parts, tmp_path):
    datasets.fetch("toy", parts=parts)
    assert np.array_equal(datasets.load("toy", "test").rows, ARRAYS["test_rows"])
    assert [file.name for file in datasets.pack("toy", tmp_path / "again")] == ["toy.part00", "toy.json"]
    notes = []
    datasets.fetch("toy", on_note=notes.append, parts=tmp_path / "elsewhere")
    assert "already" in notes[0]


def test_a_missing_part_is_named(cache, parts):
    (parts / "toy.part01").unlink()
    with pytest.raises(DataError, match=r"toy\.part01 is missing"):
        datasets.fetch("toy", parts=parts)
    assert not list(cache.glob("toy/*.npy"))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_part_with_another_hash_is_named(cache, parts, damage):
    file = parts / "toy.part01"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"toy\.part01 has .* SHA-256 .*copy it again"):
        datasets.fetch("toy", parts=parts)


def test_parts_of_other_data_are_refused_although_they_are_whole(cache, tmp_path):
    write_parts("toy", ARRAYS | {"test_labels": ARRAYS["test_labels"][::-1]}, tmp_path / "others")
    with pytest.raises(DataError, match="test_labels has SHA-256"):
        datasets.fetch("toy", parts=tmp_path / "others")
    write_parts("toy", {"test_rows": ARRAYS["test_rows"]}, tmp_path / "fewer")
    with pytest.raises(DataError, match="has no test_labels, train_labels, train_rows"):
        datasets.fetch("toy", parts=tmp_path / "fewer")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"parts": []}',
        '{"parts": [{"file": "../toy.part00", "sha256": "x"}]}',
        '{"parts": [{"file": 3}]}',
    ],
)
def test_a_broken_list_of_parts_is_refused(parts, text):
    (parts / "toy.json").write_text(text)
    with pytest.raises(DataError, match=r"toy\.json is not a list of parts"):
        read_parts("toy", parts)


def test_without_a_list_of_parts_the_command_that_writes_it_is_named(tmp_path):
    with pytest.raises(DataError, match="cascade data toy --pack"):
        read_parts("toy", tmp_path)


def test_whole_parts_that_are_no_arrays_are_refused(tmp_path):
    content = b"no archive"
    (tmp_path / "toy.part00").write_bytes(content)
    entry = {"file": "toy.part00", "bytes": 10, "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "toy.json").write_text(json.dumps({"parts": [entry]}))
    with pytest.raises(DataError, match="not the arrays of a data set"):
        read_parts("toy", tmp_path)
