"""A file of another kind is refused; the message names the kind found and the kind expected."""

import itertools

import numpy as np
import pytest

from cascade.calibration import PolicySet, ScoreTable
from cascade.config import CascadeConfig
from cascade.errors import InputError
from cascade.rows.rows_file import load_rows, save_rows

LOADERS = {"policy": PolicySet.load, "YAML": CascadeConfig.load, "score table": ScoreTable.load, "rows": load_rows}
TABLE = {
    "prediction": np.zeros((2, 1), int),
    "confidence": np.ones((2, 1)),
    "cost": np.ones(1),
    "stage": np.array(["only"]),
}


@pytest.fixture
def files(tmp_path):
    """One file of each kind; texts are rows of a form of their own."""
    made = {name: tmp_path / name for name in ("score table", "rows", "texts", "folder", "bytes")}
    with made["score table"].open("wb") as file:
        np.savez(file, **TABLE)
    save_rows(made["rows"], np.zeros((2, 3)), [0, 1])
    save_rows(made["texts"], ["a", "b"], ["x", "y"])
    made["folder"].mkdir()
    made["bytes"].write_bytes(b"\xff\xfe\x00\xe4")
    return made


@pytest.mark.parametrize(("wanted", "came"), [*itertools.product(("policy", "YAML"), ("score table", "rows", "bytes"))])
def test_other_content_is_refused_with_the_expected_kind(files, wanted, came):
    with pytest.raises(InputError, match=wanted) as refusal:
        LOADERS[wanted](files[came])
    assert str(files[came]) in str(refusal.value)
    assert "codec" not in str(refusal.value)
    assert ("archive" in str(refusal.value)) == (came != "bytes")


@pytest.mark.parametrize(
    ("wanted", "came"), [("score table", "rows"), ("score table", "texts"), ("rows", "score table")]
)
def test_a_table_instead_of_rows_and_rows_instead_of_a_table_are_recognised(files, wanted, came):
    with pytest.raises(InputError, match=f"where {wanted.replace('score', 'a score')} must be") as refusal:
        LOADERS[wanted](files[came])
    assert "rename or remove" not in str(refusal.value)


def test_a_table_with_one_array_too_many_is_still_a_table(tmp_path):
    path = tmp_path / "scores.npz"
    np.savez(path, **TABLE, rows=np.zeros(2))
    with pytest.raises(InputError, match="unknown arrays: 'rows'"):
        ScoreTable.load(path)


@pytest.mark.parametrize("wanted", ["policy", "YAML"])
def test_a_folder_is_refused_without_an_errno(files, wanted):
    with pytest.raises(InputError, match=r"cannot be read: Is a directory$"):
        LOADERS[wanted](files["folder"])


@pytest.mark.parametrize("wanted", LOADERS)
def test_an_empty_file_is_refused(tmp_path, wanted):
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(InputError, match="empty"):
        LOADERS[wanted](path)
