"""Files of labelled rows: they are read back as written, and contradictions are refused with the row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import DataError
from cascade.rows.rows_file import load_rows, save_rows

TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("rows") / "rows.npz"


@given(TEXTS, st.sampled_from(["list", "object", "bytes"]))
def test_texts_and_back(path, texts, kind):
    given_rows = {"list": texts, "object": np.array(texts, dtype=object), "bytes": [text.encode() for text in texts]}
    save_rows(path, given_rows[kind], np.arange(len(texts)))
    rows, label = load_rows(path)
    assert (rows.dtype, rows.tolist(), label.tolist()) == (object, texts, list(range(len(texts))))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "int64"])
def test_numbers_and_back(path, dtype):
    given_rows = (np.arange(24).reshape(4, 2, 3) % 2).astype(dtype)
    save_rows(path, given_rows)
    rows, label = load_rows(path)
    assert label is None
    assert rows.dtype == given_rows.dtype
    np.testing.assert_array_equal(rows, given_rows)


def test_labels_may_be_names(path):
    save_rows(path, ["x", "y", "z"], ["spam", "ham", "spam"])
    assert load_rows(path, ("ham", "spam"))[1].tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r'rows.npz: label holds texts.*\nclasses: \["ham", "spam"\]'):
        load_rows(path)


def test_one_long_text_does_not_make_the_others_long(path):
    save_rows(path, ["short"] * 1000 + ["x" * 100_000])
    assert path.stat().st_size < 120_000


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array(["a", "b\u00e4"]), ["a", "b\u00e4"]),
        (np.array([b"a", "b\u00e4".encode()]), ["a", "b\u00e4"]),
    ],
)
def test_texts_of_a_fixed_width_are_read(path, rows, expected):
    np.savez(path, rows=rows)
    assert load_rows(path)[0].tolist() == expected


def test_offsets_of_arrow_are_read(path):
    np.savez(path, rows_utf8=np.frombuffer(b"onetwo", np.uint8), rows_offsets=np.array([0, 3, 3, 6], np.int32))
    assert load_rows(path)[0].tolist() == ["one", "", "two"]


UTF8 = np.frombuffer("a\u00e4b".encode(), np.uint8)  # 4 bytes, the second letter has two


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0, 2, 4])}, "row 0 is not UTF-8"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0, 1, 0, 4])}, "row 1 starts at 1 and ends at 0"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([1, 4])}, r"from 1 to 4 \(row 0\)"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0, 1, 3])}, r"from 0 to 3 \(row 1\)"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0, 5])}, "from 0 to 5"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0, 2**64 - 1, 4], dtype=np.uint64)}, "row 0 starts at 0"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([0.0, 4.0])}, r"must be \(n \+ 1,\) integers; got float64"),
        ({"rows_utf8": UTF8, "rows_offsets": np.array([], int)}, r"must be \(n \+ 1,\) integers"),
        ({"rows_utf8": UTF8.astype(int), "rows_offsets": np.array([0, 4])}, r"must be \(bytes,\) uint8; got int64"),
        ({"rows_utf8": UTF8}, "belong together"),
        ({"rows": UTF8, "rows_utf8": UTF8, "rows_offsets": np.array([0, 4])}, "and replace rows"),
        ({"rows": np.array([b"a", b"\xff"])}, "row 1 is not UTF-8"),
        ({"label": np.array([0])}, "an array 'rows'"),
        ({"rows": np.zeros(2), "label": np.zeros(3, int)}, "label must be 2 integers or texts, one per row; got 3"),
        ({"rows": np.zeros(2), "labels": np.zeros(2, int)}, r"'labels' \(did you mean 'label'\?\)"),
        ({"rows": np.zeros(2), "sample_weight": np.ones(2)}, "weights of rows are not supported"),
    ],
    ids=str,
)
def test_a_file_that_contradicts_itself_is_refused_with_the_place(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_rows(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "label", "message"),
    [
        (["a", "\ud800"], None, "row 1 cannot be written as UTF-8"),
        ([b"\xff"], None, "row 0 is not UTF-8"),
        (np.array(["a", 1], dtype=object), None, "row 1 is int"),
        (np.array([["a"]]), None, r"or n texts; got <U1 of shape \(1, 1\)"),
        (1.5, None, "must be"),
        (["a", "b"], [1], "a label for each of the 2 rows; got 1"),
        (["a"], [None], "got None at row 0"),
        (["a", 1], None, "row 1 is int"),
        ([1, "a"], None, "row 0 is int"),
        ([[1, 2], [3]], None, "must all have the same shape"),
        (np.ma.array([[1.0], [2.0]], mask=[[0], [1]]), None, "row 1 has one"),
    ],
)
def test_rows_that_cannot_be_written_are_refused(path, rows, label, message):
    with pytest.raises(DataError, match=message):
        save_rows(path, rows, label)


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.rows.npz cannot be written"):
        save_rows(tmp_path / "nowhere" / "rows.npz", np.zeros((2, 2)))
