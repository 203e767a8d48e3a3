"""Rows of named columns: every form gives the same structured array, and a bad value is refused with its row."""

import numpy as np
import pytest

from cascade.config import RowsConfig
from cascade.errors import RowsError
from cascade.rows.checks import check_rows, example_rows
from cascade.rows.columns import column_rows, data_frame, records

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

COLUMNS = {"age": "number", "city": "text", "plan": ("free", "pro"), "member": "boolean", "visits": "integer"}
RECORDS = [
    {"age": 4.5, "city": "Bonn", "plan": "pro", "member": True, "visits": 3},
    {"age": None, "city": None, "plan": None, "member": False, "visits": 0},
]


def forms():
    frame = pd.DataFrame(RECORDS)
    return {
        "records": RECORDS,
        "pandas": frame,
        "pandas of other types": frame.convert_dtypes(),
        "other order": frame[sorted(COLUMNS)],
        "arrow": pa.Table.from_pylist(RECORDS),
        "batch": pa.RecordBatch.from_pylist(RECORDS),
        "structured": column_rows(RECORDS, COLUMNS),
        "left out": [RECORDS[0], {"member": False, "visits": 0}],
    }


@pytest.mark.parametrize("form", forms())
def test_every_form_gives_the_same_rows(form):
    rows = column_rows(forms()[form], COLUMNS)
    assert rows.shape == (2,)
    assert rows.dtype.names == tuple(COLUMNS)
    assert records(rows) == RECORDS


def test_rows_are_indexed_joined_and_read_only_like_arrays():
    rows = column_rows(RECORDS, COLUMNS)
    both = np.concatenate([rows[np.array([False, True])], rows[:1]])
    assert records(both) == RECORDS[::-1]
    view = both.view()
    view.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        view["age"][0] = 1.0


def test_a_data_frame_has_nan_for_what_is_missing():
    frame = data_frame(column_rows(RECORDS, COLUMNS))
    assert frame.isna().loc[1].tolist() == [True, True, True, False, False]
    assert frame.loc[0].tolist() == [4.5, "Bonn", "pro", True, 3]


def changed(**values):
    return [RECORDS[0], RECORDS[1] | values]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        (np.zeros((2, 5)), "rows must be records.* got ndarray"),
        ("text", "rows must be records"),
        ([RECORDS[0], [1, 2]], "row 1 is list"),
        (changed(Age=1), "row 1 has the unknown columns 'Age'; the columns are 'age', 'city'"),
        (changed(age="4"), "column 'age' must be of the type number; row 1 is '4'"),
        (changed(age=True), "column 'age' must be of the type number; row 1 is True"),
        (changed(age=float("inf")), "column 'age' must be finite or missing; row 1 is infinite"),
        (changed(age=10**400), "too large"),
        (changed(city=4), "column 'city' must be of the type text; row 1 is 4"),
        (changed(plan="gold"), "column 'plan' must be one of 'free', 'pro' or missing; row 1 is 'gold'"),
        (changed(member=1), "column 'member' must be of the type boolean"),
        (changed(member=None), "column 'member' must have a value in every row; row 1 has none"),
        (changed(visits=1.5), "column 'visits' must be of the type integer"),
        (changed(visits=2**63), "too large"),
        (pd.DataFrame(RECORDS).drop(columns="age"), "missing are 'age'"),
        (pd.DataFrame(RECORDS).rename(columns={"age": "Age"}), "unknown are 'Age', missing are 'age'"),
    ],
)
def test_bad_rows_are_refused_with_column_and_row(rows, message):
    with pytest.raises(RowsError, match=message):
        check_rows(rows, RowsConfig(columns=COLUMNS))


def test_example_rows_are_valid():
    config = RowsConfig(columns=COLUMNS)
    rows = example_rows(config, 50)
    assert records(check_rows(rows, config)) == records(rows)
    assert records(rows)[0] == {"age": 0.0, "city": "", "plan": "free", "member": False, "visits": 0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"columns": {}}, "at least one column"),
        ({"columns": {"a": "float"}}, "columns.a"),
        ({"columns": {"a": []}}, "list of different texts"),
        ({"columns": {"a": "text"}, "dtype": "text"}, "neither shape nor dtype"),
        ({"columns": {"label": "text"}}, "'label'"),
    ],
)
def test_bad_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        RowsConfig(**values)
