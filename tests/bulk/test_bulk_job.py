"""Bulk jobs: every row is answered once, as by the cascade, also after an interruption; damage is named."""

import json

import numpy as np
import pytest

from cascade import Cascade, CascadeConfig, FakeBackend, Policy, Stage
from cascade.bulk.job import BulkJob
from cascade.errors import DataError, InputError, RowsError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pandas")
from pyarrow import parquet  # noqa: E402

ROWS, PART = 2500, 300


class Graded:
    """Sure of the rows whose second number is above a half; counts its rows."""

    def __init__(self):
        self.rows = 0

    def predict(self, rows):
        self.rows += len(rows)
        sure = np.where(rows[:, 1] > 0.5, 0.95, 0.55)
        right = (rows[:, 0] > 0.5).astype(int)
        probabilities = np.stack([1 - sure, sure], axis=1)
        probabilities[right == 0] = probabilities[right == 0, ::-1]
        return FakeBackend(probabilities).predict(np.arange(len(rows))[:, None])


@pytest.fixture
def config(tmp_path):
    text = """
name: bulk
rows: {shape: [2], dtype: float64}
classes: [ham, spam]
stages:
  - {name: small, backend: {type: custom, object: "m:A"}}
  - {name: big, backend: {type: custom, object: "m:A"}}
"""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return CascadeConfig.load(path)


@pytest.fixture
def rows():
    return np.random.default_rng(0).random((ROWS, 2))


def cascade():
    policy = Policy.from_thresholds(("small", "big"), np.array([0.9]))
    return Cascade([Stage("small", Graded()), Stage("big", Graded())], policy)


def write(path, rows):
    label = np.where(rows[:, 0] > 0.5, "spam", "ham")
    table = pa.table({"a": rows[:, 0], "b": rows[:, 1], "label": label})
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    elif path.suffix == ".npz":
        np.savez(path, rows=rows, label=label)
    elif path.suffix == ".npy":
        np.save(path, rows)
    else:
        parquet.write_table(table, path, row_group_size=700)
    return path


def answers(folder):
    return pa.concat_tables([parquet.read_table(each) for each in sorted(folder.glob("part-*.parquet"))])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy"])
def test_every_row_is_answered_once_as_by_the_cascade(tmp_path, config, rows, suffix):
    source = write(tmp_path / f"rows{suffix}", rows)
    summary = BulkJob(config, cascade(), source, tmp_path / "out", PART).run()
    found, expected = answers(tmp_path / "out"), cascade().predict(rows)
    assert found["row"].to_pylist() == list(range(ROWS))
    assert found["answer"].to_pylist() == expected.answer.tolist()
    assert found["stage"].to_pylist() == [("small", "big")[stage] for stage in expected.stage]
    assert found["confidence"].to_pylist() == expected.confidence.tolist()
    assert found["label"].to_pylist() == [("ham", "spam")[answer] for answer in expected.answer]
    assert summary["rows"] == ROWS
    assert summary["parts"] == -(-ROWS // PART)
    assert summary["stage_share"]["small"] == pytest.approx((expected.stage == 0).mean())
    assert summary["accuracy"] == (None if suffix == ".npy" else 1.0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_a_stopped_job_continues_and_scores_no_part_again(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.parquet", rows), tmp_path / "out"

    def stop(count, _):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BulkJob(config, cascade(), source, out, PART).run(stop)
    (out / ".part-000001.parquet.9.partial").write_bytes(b"half")
    assert not (out / "summary.json").exists()
    again = cascade()
    BulkJob(config, again, source, out, PART).run()
    assert again.stages[0].backend.rows == ROWS - PART
    assert answers(out)["row"].to_pylist() == list(range(ROWS))


def test_a_folder_of_files_is_scored_in_the_order_of_names(tmp_path, config, rows):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "b.csv", rows[:400])
    write(tmp_path / "in" / "a.parquet", rows[400:])
    BulkJob(config, cascade(), tmp_path / "in", tmp_path / "out", PART).run()
    found = answers(tmp_path / "out")
    assert found["file"].to_pylist() == ["a.parquet"] * (ROWS - 400) + ["b.csv"] * 400
    assert found["row"].to_pylist() == [*range(ROWS - 400), *range(400)]


def test_what_precedes_a_broken_place_is_kept(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.parquet", rows), tmp_path / "out"
    content = bytearray(source.read_bytes())
    broken = parquet.ParquetFile(source).metadata.row_group(2).column(0).data_page_offset
    content[broken : broken + 200] = b"\xff" * 200
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.parquet cannot be read as parquet(?s:.*)4 parts before it are in"):
        BulkJob(config, cascade(), source, out, PART).run()
    assert answers(out)["row"].to_pylist() == list(range(4 * PART))


def test_rows_that_are_refused_are_named(tmp_path, config, rows):
    rows[1000] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    checked = Cascade(cascade().stages, cascade().policy, config.rows)
    with pytest.raises(RowsError, match=r"rows.npy, part that starts at row 900: rows must be finite; row 100"):
        BulkJob(config, checked, tmp_path / "rows.npy", tmp_path / "out", PART).run()


def test_another_job_or_a_foreign_folder_is_refused(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.npy", rows), tmp_path / "out"
    BulkJob(config, cascade(), source, out, PART).run()
    with pytest.raises(InputError, match="other values of part_rows"):
        BulkJob(config, cascade(), source, out, PART + 1)
    write(source, rows[:100])
    with pytest.raises(InputError, match="other values of input_sha256"):
        BulkJob(config, cascade(), source, out, PART)
    (out / "job.json").write_text("[")
    with pytest.raises(InputError, match="is damaged"):
        BulkJob(config, cascade(), source, out, PART)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no bulk job"):
        BulkJob(config, cascade(), source, tmp_path / "foreign", PART)
    with pytest.raises(InputError, match="is not a folder"):
        BulkJob(config, cascade(), source, source, PART)


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_a_bad_input_is_refused(tmp_path, config, kind):
    source = tmp_path / "in"
    if kind != "missing":
        source.mkdir()
    if kind == "text":
        (source / "notes.txt").write_text("x")
    with pytest.raises(DataError):
        BulkJob(config, cascade(), source, tmp_path / "out", PART)
