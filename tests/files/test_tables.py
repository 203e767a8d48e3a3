"""Files of named columns: every format gives the same rows, and a bad file is refused with its place."""

import json

import pytest

from cascade.calibration import ScoreTable, calibrate
from cascade.errors import DataError, ScoreTableError
from cascade.rows.rows_file import load_rows

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pandas")

COLUMNS = {
    "small.prediction": ["ham", "spam", "ham", "spam"],
    "small.confidence": [0.5, 0.75, 1.0, 0.25],
    "big.prediction": ["ham", "spam", "spam", "spam"],
    "big.confidence": [0.9, 0.8, 0.7, 0.6],
    "label": ["ham", "spam", "spam", "ham"],
}
COSTS = {"small": 1.0, "big": 5.0}


def write(path, columns):
    """A table in the format of the path's suffix."""
    table = pa.table(columns)
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, path)
    elif path.suffix in (".arrow", ".ipc"):
        from pyarrow import ipc

        with (ipc.new_file if path.suffix == ".arrow" else ipc.new_stream)(path, table.schema) as out:
            out.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".ipc", ".jsonl"])


@SUFFIXES
def test_a_log_of_answers_is_a_score_table(tmp_path, suffix):
    table = ScoreTable.from_log(write(tmp_path / f"log{suffix}", COLUMNS), costs=COSTS, cost_unit="cent")
    assert table.classes.tolist() == ["ham", "spam"]
    assert table.prediction.tolist() == [[0, 0], [1, 1], [0, 1], [1, 1]]
    assert table.label.tolist() == [0, 1, 1, 0]
    assert table.confidence[:, 0].tolist() == COLUMNS["small.confidence"]
    assert (table.cost.tolist(), table.cost_unit) == ([1.0, 5.0], "cent")


@SUFFIXES
def test_whole_numbers_are_ids_and_costs_may_differ_by_row(tmp_path, suffix):
    numbers = {name: [3, 0, 3, 7] if name[-1] != "e" else values for name, values in COLUMNS.items()}
    path = write(tmp_path / f"log{suffix}", numbers | {"small.cost": [1, 2, 3, 4], "big.cost": [9, 9, 9, 9]})
    table = ScoreTable.load(path)
    assert table.classes is None
    assert table.label.tolist() == [3, 0, 3, 7]
    assert table.cost.tolist() == [[1, 9], [2, 9], [3, 9], [4, 9]]


def test_columns_are_mapped_by_name_and_stages_ordered(tmp_path):
    names = {"pred_a": "small.prediction", "conf_a": "small.confidence", "truth": "label"}
    renamed = {next((new for new, old in names.items() if old == name), name): v for name, v in COLUMNS.items()}
    path = write(tmp_path / "log.csv", renamed)
    mapping = {old: new for new, old in names.items()}
    table = ScoreTable.from_log(path, mapping, COSTS, stages=["big", "small"])
    assert table.stage.tolist() == ["big", "small"]
    assert table.prediction[:, 1].tolist() == [0, 1, 0, 1]


def test_many_batches_are_one_table(tmp_path):
    count = 200_000
    path = write(tmp_path / "log.csv", {name: values * (count // 4) for name, values in COLUMNS.items()})
    table = ScoreTable.from_log(path, costs=COSTS)
    assert len(table) == count
    assert table.label.reshape(-1, 4).std(axis=0).max() == 0


def without(name):
    return {key: values for key, values in COLUMNS.items() if key != name}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (without("big.confidence"), {}, "lacks the columns 'big.confidence'"),
        (COLUMNS, {"costs": {"small": 1.0}}, r"lacks the columns 'big.cost'.*--cost small=0.2"),
        (COLUMNS, {"costs": COSTS | {"huge": 1.0}}, "no stage 'huge'; the columns have the stages small, big"),
        (COLUMNS, {"columns": {"label": "truth"}}, "has no column 'truth'"),
        (COLUMNS, {"columns": {"small.answer": "label"}}, "columns are named 'label' or STAGE"),
        (COLUMNS | {"time": [1, 2, 3, 4]}, {}, "has other columns: 'time'.*--ignore-others"),
        (COLUMNS | {"small.confidense": [1, 2, 3, 4]}, {"ignore_others": True}, "other columns: 'small.confidense'"),
        (COLUMNS | {"small.confidence": [0.5, None, 1, 1]}, {}, r"row 1 \(line 3\) has no value in column 'small.conf"),
        (COLUMNS | {"label": ["a", "b", None, "a"]}, {}, r"row 2 \(line 4\) has no value in column 'label'"),
        (COLUMNS | {"small.confidence": [0.5, 7.0, 1, 1]}, {}, r"(?s)log.csv: .*confidence must be"),
        (COLUMNS | {"small.confidence": ["x", "y", "z", "w"]}, {}, "log.csv cannot be read as csv"),
        (COLUMNS, {"classes": ["ham"]}, "not classes: spam"),
        ({"a": [1], "b": [2]}, {}, "no column such as 'small.prediction'.* The columns are a, b"),
        ({name: [] for name in COLUMNS}, {}, "has no rows"),
    ],
)
def test_a_bad_log_is_refused_with_its_place_and_remedy(tmp_path, columns, options, message):
    path = write(tmp_path / "log.csv", columns)
    with pytest.raises(ScoreTableError, match=message):
        ScoreTable.from_log(path, **({"costs": COSTS} | options))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "has no columns"),
        ("a.csv", b"x,x\n1,2\n", "several columns are called 'x'"),
        ("a.csv", b"x,\n1,2\n", "column 2 has no name"),
        ("a.csv", b"x,y\n1,2\n3\n", "cannot be read as csv"),
        ("a.csv", b"x,label\n1,0\n,1\n", r"row 1 \(line 3\) has no value in column 'x'"),
        ("a.csv", b"x,y,label\n1,a,0\n", "column 'y' holds string, not numbers.*rows: {columns"),
        ("a.csv", b"x,label\n1,0\n2,\n", r"row 1 \(line 3\) has no label"),
        ("a.csv", b"label\n1\n", "has labels only"),
        ("a.csv", b"\xff\xfe,label\n1,2\n", "cannot be read"),
        ("a.parquet", b"PAR1 nothing", "cannot be read as parquet"),
        ("a.arrow", b"ARROW1 nothing", "cannot be read as arrow"),
        ("a.jsonl", b'{"x": 1}\n{"x": \n', "line 2, is not JSON"),
        ("a.jsonl", b"[1, 2]\n", "line 1, must be a JSON object; got list"),
        ("a.jsonl", b'{"x": 1}\n{"x": "a"}\n', "column 'x' must have one type"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_rows(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load_rows(tmp_path / "folder.csv")
    for load, error in ((load_rows, DataError), (ScoreTable.load, ScoreTableError)):
        with pytest.raises(error, match="does not exist"):
            load(tmp_path / "no.parquet")


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'idk-cascade\[tables\]'"):
        load_rows(tmp_path / "a.csv")


@SUFFIXES
def test_columns_of_numbers_are_rows(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", {"a": [1, 2], "label": ["x", "y"], "b": [3, 4]})
    rows, label = load_rows(path, ("y", "x"))
    assert (rows.tolist(), label.tolist()) == ([[1, 3], [2, 4]], [1, 0])
    assert rows.dtype.kind == "i"


@SUFFIXES
def test_one_column_of_texts_is_rows(tmp_path, suffix):
    rows, label = load_rows(write(tmp_path / f"rows{suffix}", {"mail": ["hello", "buy, now"], "label": [0, 1]}))
    assert (rows.dtype, rows.tolist(), label.tolist()) == (object, ["hello", "buy, now"], [0, 1])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl"])
def test_a_column_of_lists_is_rows(tmp_path, suffix):
    rows, _ = load_rows(write(tmp_path / f"rows{suffix}", {"pixels": [[[1, 2], [3, 4]]] * 3}))
    assert rows.shape == (3, 2, 2)


def test_numbers_after_whole_numbers_are_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x,label\n" + "1,0\n" * 300_000 + "1.5,0\n")  # beyond the first block of the reader
    rows, _ = load_rows(path)
    assert rows[-1].tolist() == [1.5]


def test_from_a_log_to_a_policy(tmp_path):
    path = write(tmp_path / "log.csv", {name: values * 200 for name, values in COLUMNS.items()})
    policy = calibrate(ScoreTable.from_log(path, costs=COSTS), target_agreement=0.7)
    assert policy.stages == ("small", "big")
