"""Steps are bounded in time, do not stop each other, and are not run again."""

import fcntl
import json
import os
import sys
import time

import pytest

from cascade.benchmarks.harness import steps as steps_module
from cascade.benchmarks.harness.steps import Step, Steps
from cascade.errors import ConfigError


def python(code):
    return (sys.executable, "-c", code)


@pytest.fixture
def steps(tmp_path):
    return Steps(tmp_path, os.environ, on_line=lambda line: None)


def test_a_step_that_fails_is_reported_and_the_others_run(steps, tmp_path):
    failing = Step("failing", [python("raise RuntimeError('CUDA out of memory')"), python("open('never', 'w')")], 60)
    missing = Step("missing", [("/no/such/program",)], 60)
    assert not steps.run([failing, missing, Step("good", [python("print(1)")], 60)], 60)
    found = json.loads((tmp_path / "steps.json").read_text())
    assert found["failing"]["state"] == found["missing"]["state"] == "failed"
    assert found["failing"]["why"].endswith("RuntimeError: CUDA out of memory")
    assert "cannot be started" in found["missing"]["why"]
    assert found["good"]["state"] == "done"


def test_a_step_that_exceeds_its_time_is_stopped_with_its_children(steps, tmp_path):
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    begin = time.monotonic()
    assert not steps.run([Step("slow", [python(code)], 1.0), Step("next", [python("")], 60)], 60)
    assert time.monotonic() - begin < 3
    assert {name: each["state"] for name, each in steps.states.items()} == {"slow": "out of time", "next": "done"}
    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_finished_steps_are_skipped_and_the_others_run_again(steps, tmp_path, monkeypatch):
    code = "import pathlib, sys; open('count', 'a').write('x'); sys.exit(0 if pathlib.Path('ready').exists() else 1)"
    monkeypatch.chdir(tmp_path)
    done, retried = Step("done", [python("")], 60), Step("retried", [python(code)], 60)
    assert not steps.run([done, retried], 60)
    (tmp_path / "ready").touch()
    lines = []
    again = Steps(tmp_path, os.environ, on_line=lines.append)
    assert again.run([done, retried], 60)
    assert "done: done before" in lines
    assert (tmp_path / "count").read_text() == "xx"


def test_steps_wait_for_those_they_need_and_for_time(steps):
    failing, after = Step("failing", [python("exit(1)")], 60), Step("after", [python("")], 60, ("failing",))
    assert not steps.run([failing, after], 60)
    assert steps.states["after"] == {"state": "not begun", "why": "it needs failing, not done yet"}
    assert not steps.run([Step("late", [python("")], 60)], steps_module.LEAST_S / 2)
    assert "run it again" in steps.states["late"]["why"]


def test_a_missed_figure_is_a_result(steps):
    assert steps.run([Step("missed", [python("exit(6)"), python("")], 60)], 60)
    assert steps.states["missed"]["why"] == "a figure was missed"


def test_results_are_copied_after_each_step(tmp_path):
    folder, copies = tmp_path / "folder", tmp_path / "copies"
    (folder / "results").mkdir(parents=True)
    write = f"open({str(folder / 'results' / 'a.json')!r}, 'w').write('1'); exit(1)"
    Steps(folder, os.environ, (copies, ("results/*", "steps.json")), lambda line: None).run(
        [Step("writes", [python(write)], 60)], 60
    )
    assert (copies / "results" / "a.json").read_text() == "1"
    assert json.loads((copies / "steps.json").read_text())["writes"]["state"] == "failed"


def test_two_processes_do_not_share_a_folder(steps, tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process runs steps"):
            steps.run([Step("good", [python("")], 60)], 60)
    assert steps.run([Step("good", [python("")], 60)], 60)


def test_a_broken_record_is_refused(tmp_path):
    (tmp_path / "steps.json").write_text("[")
    with pytest.raises(ConfigError, match="delete it"):
        Steps(tmp_path, os.environ)
