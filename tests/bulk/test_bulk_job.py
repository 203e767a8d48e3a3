"""Bulk jobs: every row is answered once, as by the cascade, also after an interruption; damage is named."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cascade import CascadeConfig
from cascade.errors import DataError, InputError, RowsError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pandas")
from bulk_cases import CONFIG, answers, new_cascade, run, write  # noqa: E402
from pyarrow import parquet  # noqa: E402

ROWS, PART = 2500, 300


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return CascadeConfig.load(path)


@pytest.fixture
def rows():
    return np.random.default_rng(0).random((ROWS, 2))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".npz", ".npy"])
def test_every_row_is_answered_once_as_by_the_cascade(tmp_path, config, rows, suffix):
    source = write(tmp_path / f"rows{suffix}", rows)
    summary = run(config, new_cascade(), source, tmp_path / "out", PART)
    found, expected = answers(tmp_path / "out"), new_cascade().predict(rows)
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
        run(config, new_cascade(), source, out, PART, stop)
    (out / ".part-000001.parquet.9.partial").write_bytes(b"half")
    assert not (out / "summary.json").exists()
    again = new_cascade()
    run(config, again, source, out, PART)
    assert again.stages[0].backend.rows == ROWS - PART
    assert answers(out)["row"].to_pylist() == list(range(ROWS))


def test_a_folder_of_files_is_scored_in_the_order_of_names(tmp_path, config, rows):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "b.csv", rows[:400])
    write(tmp_path / "in" / "a.parquet", rows[400:])
    run(config, new_cascade(), tmp_path / "in", tmp_path / "out", PART)
    found = answers(tmp_path / "out")
    assert found["file"].to_pylist() == ["a.parquet"] * (ROWS - 400) + ["b.csv"] * 400
    assert found["row"].to_pylist() == [*range(ROWS - 400), *range(400)]


def test_what_can_be_read_beside_a_broken_place_is_scored(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.parquet", rows), tmp_path / "out"
    content = bytearray(source.read_bytes())
    broken = parquet.ParquetFile(source).metadata.row_group(2).column(0).data_page_offset
    content[broken : broken + 200] = b"\xff" * 200
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.parquet cannot be read as parquet(?s:.*)6 parts are in"):
        run(config, new_cascade(), source, out, PART)
    whole_parts_outside = [*range(4 * PART), *range(3 * 700, ROWS)]
    assert answers(out)["row"].to_pylist() == whole_parts_outside
    summary = json.loads((out / "summary.json").read_text())
    assert not summary["complete"]
    assert "cannot be read as parquet" in summary["damaged"][0]
    assert summary["rows"] == len(whole_parts_outside)


def test_rows_that_are_refused_are_named(tmp_path, config, rows):
    rows[1000] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    checked = new_cascade(config.rows)
    with pytest.raises(RowsError, match=r"rows.npy, part that starts at row 900: rows must be finite; row 100"):
        run(config, checked, tmp_path / "rows.npy", tmp_path / "out", PART)


def test_another_job_or_a_foreign_folder_is_refused(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.npy", rows), tmp_path / "out"
    run(config, new_cascade(), source, out, PART)
    with pytest.raises(InputError, match="other values of part_rows"):
        run(config, new_cascade(), source, out, PART + 1)
    other = write(tmp_path / "others.npy", rows)
    with pytest.raises(InputError, match="other values of files"):
        run(config, new_cascade(), other, out, PART)
    (out / "job.json").write_text("[")
    with pytest.raises(InputError, match="is damaged"):
        run(config, new_cascade(), source, out, PART)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no bulk job"):
        run(config, new_cascade(), source, tmp_path / "foreign", PART)
    with pytest.raises(InputError, match="is not a folder"):
        run(config, new_cascade(), source, source, PART)
    with pytest.raises(InputError, match="is not a folder"):
        run(config, new_cascade(), source, Path("/dev/null"), PART)
    (tmp_path / "link").symlink_to(tmp_path / "foreign")
    with pytest.raises(InputError, match="symbolic link"):
        run(config, new_cascade(), source, tmp_path / "link", PART)


def test_only_the_parts_of_a_changed_file_are_scored_again(tmp_path, config, rows):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", rows[:400])
    write(tmp_path / "in" / "b.csv", rows[400:])
    run(config, new_cascade(), tmp_path / "in", tmp_path / "out", PART)
    write(tmp_path / "in" / "a.csv", rows[:350])
    again = new_cascade()
    run(config, again, tmp_path / "in", tmp_path / "out", PART)
    assert again.stages[0].backend.rows == 350
    assert len(answers(tmp_path / "out")) == 350 + ROWS - 400


def test_a_folder_belongs_to_one_process(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.npy", rows), tmp_path / "out"

    def start_another(count, _):
        with pytest.raises(InputError, match="another process writes to"):
            run(config, new_cascade(), source, out, PART)

    run(config, new_cascade(), source, out, PART, start_another)


def test_what_was_written_before_a_full_disk_is_kept(tmp_path, config, rows, monkeypatch):
    source, out, sync = write(tmp_path / "rows.npy", rows), tmp_path / "out", os.fsync

    def full(count, _):
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))

    with pytest.raises(DataError, match=r"cannot be written: (?s:.*)No space left(?s:.*)1 parts are in"):
        run(config, new_cascade(), source, out, PART, full)
    monkeypatch.setattr(os, "fsync", sync)
    assert [path for path in out.iterdir() if "partial" in path.name] == []
    again = new_cascade()
    run(config, again, source, out, PART)
    assert again.stages[0].backend.rows == ROWS - PART


def test_a_damaged_file_of_answers_is_named(tmp_path, config, rows):
    source, out = write(tmp_path / "rows.npy", rows), tmp_path / "out"
    run(config, new_cascade(), source, out, PART)
    (out / "part-00000-000003.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-00000-000003.parquet, a file of answers, is damaged"):
        run(config, new_cascade(), source, out, PART)


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_a_bad_input_is_refused(tmp_path, config, kind):
    source = tmp_path / "in"
    if kind != "missing":
        source.mkdir()
    if kind == "text":
        (source / "notes.txt").write_text("x")
    with pytest.raises(DataError):
        run(config, new_cascade(), source, tmp_path / "out", PART)
