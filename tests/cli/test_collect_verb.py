"""``cascade collect``: early checks, partial results, and continued runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cascade.calibration import Policy, ScoreTable
from cascade.rows.rows_file import save_rows

CONFIG = """
name: texts
rows: {dtype: text}
classes: [even, odd]
stages:
  - {name: quick, backend: {type: custom, object: "collect_verb_models:Length"}}
  - {name: slow, backend: {type: custom, object: "collect_verb_models:Length", arguments: {signs: signs}}}
"""

MODULE = '''
"""A model that fails or waits, as a file specifies."""

import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


class Length:
    def __init__(self, signs=None):
        self.signs = None if signs is None else HERE / signs
        (HERE / "loaded").touch()

    def predict(self, rows):
        if self.signs is not None and "40" in rows:
            if (self.signs / "fail").exists():
                raise RuntimeError("out of luck")
            if (self.signs / "wait").exists():
                (self.signs / "waiting").touch()
                time.sleep(60)
        odd = np.array([len(text) % 2 for text in rows])
        return np.where(odd[:, None] == [0, 1], 0.9, 0.1)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "collect_verb_models", raising=False)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "collect_verb_models.py").write_text(MODULE)
    (tmp_path / "signs").mkdir()
    texts = [str(number) for number in range(100)]
    save_rows(tmp_path / "rows.npz", texts, ["odd" if len(text) % 2 else "even" for text in texts])
    yield tmp_path
    sys.modules.pop("collect_verb_models", None)


def arguments(folder, *more):
    files = (folder / "config.yaml", "--rows", folder / "rows.npz", "--out", folder / "scores.npz")
    return ("collect", *files, "--batch-rows", 20, "--curve-seconds", 0.2, *more)


def words(text):
    """The text without the line breaks of a narrow terminal."""
    return " ".join(text.split())


def test_texts_with_named_labels_become_a_table(run, folder):
    result = run(*arguments(folder, "--json"))
    assert (result.code, result.json["accuracy"]) == (0, {"quick": 1.0, "slow": 1.0}), result.err
    table = ScoreTable.load(folder / "scores.npz")
    assert (table.classes.tolist(), table.label[:11].tolist()) == (["even", "odd"], [1] * 10 + [0])


def test_integers_may_be_names_of_classes(run, folder):
    (folder / "config.yaml").write_text(CONFIG.replace("[even, odd]", '["1", "0"]'))
    texts = [str(number) for number in range(100)]
    save_rows(folder / "rows.npz", texts, [1 - len(text) % 2 for text in texts])
    result = run(*arguments(folder, "--json"))
    assert (result.code, result.json["accuracy"]) == (0, {"quick": 1.0, "slow": 1.0}), result.err


@pytest.mark.parametrize("named", [True, False])
def test_check_bench_and_explain_accept_the_same_labels(run, folder, named):
    texts = [str(number) for number in range(100)]
    ids = [len(text) % 2 for text in texts]
    save_rows(folder / "rows.npz", texts, [("even", "odd")[each] for each in ids] if named else ids)
    Policy.from_thresholds(("quick", "slow"), np.array([0.5])).save(folder / "policy.json")
    common = (folder / "config.yaml", "--rows", folder / "rows.npz", "--json")
    checked = run("check", *common)
    assert (checked.code, checked.json["fresh"]["accuracy"]) == (0, 1.0), checked.err
    load = ("--target", "in-process", "--seconds", 0.05, "--warmup-seconds", 0, "--repeats", 1)
    benched = run("bench", "run", *common, *load, "--out", folder / "bench.json")
    assert (benched.code, benched.json["summary"]["accuracy"]["median"]) == (0, 1.0), benched.err
    explained = run("explain", *common, "--index", 5)
    assert (explained.code, explained.json["label"], explained.json["answer"]) == (0, 1, 1), explained.err


def test_a_failed_run_is_continued_by_the_next_one(run, folder):
    (folder / "signs" / "fail").touch()
    failed = run(*arguments(folder))
    assert failed.code == 7
    assert "stage 'slow': on the rows 40 to 59" in words(failed.err)
    assert "RuntimeError: out of luck" in words(failed.err)
    assert "stage 'slow' stopped after 40 of 100 rows" in words(failed.err)
    assert not (folder / "scores.npz").exists()

    (folder / "signs" / "fail").unlink()
    done = run(*arguments(folder))
    assert done.code == 0
    assert "stage 'quick': resumed after 100 of 100 rows" in words(done.err)
    assert "stage 'slow': resumed after 40 of 100 rows" in words(done.err)
    assert sorted(path.name for path in folder.glob("scores*")) == ["scores.npz"]
    assert ScoreTable.load(folder / "scores.npz").correct.all()


def test_no_resume_starts_from_the_beginning(run, folder):
    (folder / "signs" / "fail").touch()
    assert run(*arguments(folder)).code == 7
    (folder / "signs" / "fail").unlink()
    done = run(*arguments(folder, "--no-resume"))
    assert (done.code, "resumed" in done.err) == (0, False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_nothing(run, folder, number, code):
    (folder / "signs" / "wait").touch()
    command = [sys.executable, "-m", "cascade", *map(str, arguments(folder, "--json"))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not (folder / "signs" / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=90)
    assert (process.returncode, "stage 'slow' stopped after 40 of 100 rows" in words(err)) == (code, True), err
    (folder / "signs" / "wait").unlink()
    done = run(*arguments(folder, "--json"))
    assert (done.code, "stage 'slow': resumed after 40 of 100 rows" in words(done.err)) == (0, True)


REFUSED = {
    "no rows file": (["--rows", "none.npz"], "does not exist"),
    "no folder": (["--out", "none/scores.npz"], "the folder none does not exist"),
    "a folder": (["--out", "signs"], "it is not a file"),
    "the rows": (["--out", "rows.npz"], "is the file of the rows"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_unwritable_output_is_refused_before_a_model_is_loaded(run, folder, monkeypatch, kind):
    monkeypatch.chdir(folder)
    options, message = REFUSED[kind]
    result = run("collect", "config.yaml", "--rows", "rows.npz", *options)
    assert (result.code, message in words(result.err)) == (3, True), result.err
    assert not (folder / "loaded").exists()


def test_a_folder_without_write_permission_is_refused_before_a_model_is_loaded(run, folder, monkeypatch):
    allowed = os.access  # root may write everywhere
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != folder / "signs" and allowed(path, mode))
    result = run(*arguments(folder, "--out", folder / "signs" / "scores.npz"))
    assert (result.code, "permission denied" in words(result.err)) == (3, True)
    assert not (folder / "loaded").exists()


def test_a_table_of_other_classes_is_refused(run, folder):
    assert run(*arguments(folder)).code == 0
    (folder / "config.yaml").write_text(CONFIG.replace("[even, odd]", "[odd, even]"))
    checked = run("check", folder / "config.yaml", "--scores", folder / "scores.npz")
    assert (checked.code, "classes ('even', 'odd'), the config has ('odd', 'even')" in words(checked.err)) == (3, True)


def test_a_label_outside_the_classes_is_refused_with_its_row(run, folder):
    with np.load(folder / "rows.npz") as file:
        arrays = dict(file)
    arrays["label"][7] = "bad"
    np.savez(folder / "rows.npz", **arrays)
    result = run(*arguments(folder))
    assert (result.code, "got 'bad' at row 7" in words(result.err)) == (3, True)
    assert not (folder / "loaded").exists()
