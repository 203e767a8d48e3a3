"""Zip bombs are refused by every reader."""

import io
import struct
import zipfile

import numpy as np
import pytest

from cascade.backends.config import SklearnConfig
from cascade.backends.sklearn_backend import SklearnBackend
from cascade.calibration import ScoreTable
from cascade.errors import DataError, InputError, ScoreTableError, WeightsError
from cascade.files import zip_files
from cascade.rows.rows_file import load_rows

READERS = {
    "score table": (ScoreTable.load, ScoreTableError, "prediction.npy"),
    "rows": (load_rows, DataError, "rows.npy"),
    "skops": (lambda path: SklearnBackend.load(SklearnConfig(type="sklearn", model=path)), WeightsError, "schema.json"),
}
each_reader = pytest.mark.parametrize(("read", "error", "member"), READERS.values(), ids=READERS)


def npy(n):
    file = io.BytesIO()
    np.save(file, np.zeros(n))
    return file.getvalue()


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return path


@pytest.fixture
def small(monkeypatch):
    """Archives beyond 100 kB are large here."""
    monkeypatch.setattr(zip_files, "FREE_BYTES", 100_000)


@each_reader
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, small, read, error, member):
    path = archive(tmp_path / "bomb", {member: npy(1_000_000), "label.npy": npy(1_000_000)})
    with pytest.raises(error, match="like a zip bomb"):
        read(path)


@each_reader
def test_many_members_are_refused(tmp_path, monkeypatch, read, error, member):
    monkeypatch.setattr(zip_files, "MOST_MEMBERS", 100)
    path = archive(tmp_path / "bomb", {member: b"", **{f"{index}.npy": b"" for index in range(100)}})
    with pytest.raises(error, match="101 files"):
        read(path)


@each_reader
@pytest.mark.parametrize("declared", [10, 1000, (1 << 32) - 2])
def test_a_wrong_directory_does_not_help(tmp_path, small, read, error, member, declared):
    path = archive(tmp_path / "bomb", {member: npy(1_000_000)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", declared)
    path.write_bytes(content)
    with pytest.raises(error):
        read(path)


def test_an_archive_that_is_stored_may_be_of_any_size(tmp_path, small):
    np.savez(tmp_path / "rows.npz", rows=np.zeros((100_000, 2)), label=np.zeros(100_000, int))
    rows, _ = load_rows(tmp_path / "rows.npz")
    assert rows.shape == (100_000, 2)


def test_an_array_that_declares_more_than_its_member_has_is_refused(tmp_path):
    lying = npy(10).replace(b"(10,)", b"(99,)")
    with pytest.raises(DataError, match="declares 99 values of float64, and 80 bytes follow"):
        load_rows(archive(tmp_path / "rows.npz", {"rows.npy": lying}))


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = tmp_path / "rows.npz"
    archive(path, {"rows.npy": npy(3)})
    with zipfile.ZipFile(path, "a") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr("rows.npy", npy(4))
    with pytest.raises(InputError, match="1 arrays with duplicate names"):
        load_rows(path)
