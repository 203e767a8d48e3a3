"""Checks of rows: fitting rows pass unchanged, everything else is a RowsError."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.config import RowsConfig
from cascade.errors import RowsError
from cascade.rows.checks import check_rows

PIXELS = RowsConfig(shape=(2, 2), dtype="uint8")
NUMBERS = RowsConfig(shape=(2,), dtype="float32")
TEXTS = RowsConfig(dtype="text")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[[1, 2], [3, 4]]], PIXELS),
        (np.full((3, 2, 2), 255.0).astype(np.int64), PIXELS),
        (np.zeros((3, 2, 2), dtype=bool), PIXELS),
        ([[0.5, -1]], NUMBERS),
        ([[1, 2], [3, 4]], NUMBERS),
        (np.zeros((2, 3), dtype=np.float64).T, NUMBERS),
        ([1.5, 2.5], RowsConfig(dtype="float64")),
        ([True, False], RowsConfig(dtype="bool")),
    ],
)
def test_fitting_rows_come_out_equal_contiguous_and_of_the_right_type(rows, expected):
    checked = check_rows(rows, expected)
    assert checked.dtype == expected.numpy_dtype
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, np.asarray(rows))


def test_an_array_that_fits_is_not_copied():
    rows = np.zeros((4, 2, 2), dtype=np.uint8)
    assert np.shares_memory(check_rows(rows, PIXELS), rows)


@pytest.mark.parametrize(
    ("rows", "expected", "message"),
    [
        ([], NUMBERS, "at least one row"),
        (np.zeros((0, 2)), NUMBERS, "at least one row"),
        ([1.0, 2.0], NUMBERS, "must have the shape"),
        ([[1.0, 2.0, 3.0]], NUMBERS, "must have the shape"),
        ([[[1.0, 2.0]]], NUMBERS, "must have the shape"),
        (1.0, NUMBERS, "must have the shape"),
        (1.0, RowsConfig(dtype="float64"), "must have the shape"),
        ([[]], NUMBERS, "must have the shape"),
        ([[1.0], [1.0, 2.0]], NUMBERS, "must all have the same shape"),
        ([["1", "2"]], NUMBERS, "must be numbers"),
        ([[None, 1.0]], NUMBERS, "must be numbers; got a missing value"),
        (np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 0], [0, 1]]), NUMBERS, "row 1 has one"),
        (np.ma.array(["a", "b"], mask=[1, 0]), TEXTS, "row 0 has one"),
        (None, NUMBERS, "must be numbers"),
        ({"a": 1}, NUMBERS, "must be numbers"),
        ([[1 + 2j, 0]], NUMBERS, "must be numbers"),
        ([[2**70, 0]], NUMBERS, "must be numbers"),
        (np.array([["2020-01-01"] * 2], dtype="datetime64[D]"), NUMBERS, "must be numbers"),
        ([[1.0, 2.0], [np.nan, 1.0]], NUMBERS, "row 1 holds NaN"),
        ([[np.inf, 1.0]], NUMBERS, "row 0 holds NaN"),
        ([[0.0, 0.0], [1e300, 1.0]], NUMBERS, "row 1 .* too large for float32"),
        ([[[256, 0], [0, 0]]], PIXELS, "do not all fit"),
        ([[[-1, 0], [0, 0]]], PIXELS, "do not all fit"),
        ([[[0.5, 0], [0, 0]]], PIXELS, "do not all fit"),
        ([[[np.nan, 0], [0, 0]]], PIXELS, "do not all fit"),
        ([2, 0], RowsConfig(dtype="bool"), "do not all fit"),
        ([1e5], RowsConfig(dtype="float16"), "too large for float16"),
        ("text", TEXTS, "list of at least one text"),
        ([], TEXTS, "list of at least one text"),
        (["a", 1], TEXTS, "list of at least one text"),
        ([["a"], ["b"]], TEXTS, "list of at least one text"),
        (np.array([["a"], ["b"]]), TEXTS, "list of at least one text"),
        (np.array([1, 2]), TEXTS, "list of at least one text"),
        (None, TEXTS, "list of at least one text"),
    ],
    ids=str,
)
def test_other_rows_are_refused_with_a_reason(rows, expected, message):
    with pytest.raises(RowsError, match=message):
        check_rows(rows, expected)


@pytest.mark.parametrize("texts", [["one"], ["", "zwei", "três"], np.array(["a", "bcd"])])
def test_texts_become_objects(texts):
    checked = check_rows(texts, TEXTS)
    assert checked.dtype == object
    assert checked.tolist() == list(texts)


@given(
    arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.int16, np.uint64]),
        st.tuples(st.integers(1, 4), st.just(2)),
    ),
    st.sampled_from(["float32", "float64", "uint8", "int8", "int64", "uint64", "float16"]),
)
def test_numbers_keep_their_value_or_are_refused(rows, dtype):
    expected = RowsConfig(shape=(2,), dtype=dtype)
    with np.errstate(all="ignore"):
        in_float = rows.astype(expected.numpy_dtype)
    if expected.numpy_dtype.kind == "f":
        fits = np.isfinite(in_float).all()
    else:
        limits = np.iinfo(dtype)
        numbers = rows.ravel().tolist()
        same_type = rows.dtype == expected.numpy_dtype
        fits = same_type or (rows.dtype.kind != "f" and all(limits.min <= x <= limits.max for x in numbers))
    if not fits:
        with pytest.raises(RowsError):
            check_rows(rows, expected)
    elif expected.numpy_dtype.kind == "f":
        np.testing.assert_array_equal(check_rows(rows, expected), in_float)
    else:
        assert check_rows(rows, expected).tolist() == rows.tolist()


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=2),
    max_leaves=6,
)


@given(NESTED, st.sampled_from([PIXELS, NUMBERS, TEXTS, RowsConfig(dtype="int8")]))
def test_anything_that_json_can_hold_is_rows_or_a_rows_error(rows, expected):
    try:
        checked = check_rows(rows, expected)
    except RowsError:
        return
    assert checked.shape == (len(rows), *expected.shape)
    assert checked.dtype == expected.numpy_dtype
