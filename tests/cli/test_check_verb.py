"""``cascade check``: fresh rows, exit codes, JSON and printed text."""

import subprocess
import sys

import numpy as np
import pytest

from cascade.calibration import Policy


@pytest.fixture(scope="module")
def calibrated(digits_folder, tmp_path_factory):
    """(config, policy, folder): 500 rows for the calibration, 400 fresh ones, and these again, corrupted."""
    from typer.testing import CliRunner

    from cascade.cli.main import app

    folder = tmp_path_factory.mktemp("check")
    with np.load(digits_folder / "rows.npz") as file:
        rows, label = file["rows"], file["label"]
    np.savez(folder / "old.npz", rows=rows[:500], label=label[:500])
    np.savez(folder / "fresh.npz", rows=rows[500:], label=label[500:])
    np.savez(folder / "spoilt.npz", rows=rows[500:, ::-1], label=label[500:])
    np.savez(folder / "unlabelled.npz", rows=rows[500:])
    config, scores, policy = digits_folder / "config.yaml", folder / "s.npz", folder / "policy.json"
    collected = ["collect", str(config), "--rows", str(folder / "old.npz"), "--out", str(scores), "--json"]
    collected += ["--curve-seconds", "0"]  # with measured times it would depend on the machine which stages run
    assert CliRunner().invoke(app, collected).exit_code == 0
    made = ["calibrate", str(config), "--scores", str(scores), "--max-accuracy-drop", "0.1", "--out", str(policy)]
    assert CliRunner().invoke(app, made).exit_code == 0
    return config, policy, folder


def test_fresh_rows_of_the_same_kind_pass(run, calibrated):
    config, policy, folder = calibrated
    arguments = ("check", config, "--policy", policy, "--rows", folder / "fresh.npz")
    result = run(*arguments, "--json")
    assert result.code == 0, result.err
    fresh = result.json["fresh"]
    assert (fresh["rows"], fresh["delta"], fresh["conclusion"]) == (400, 0.05, "nothing contradicts the policy")
    claims = [finding["claim"] for finding in fresh["findings"]]
    assert claims == ["max_accuracy_drop", "rows forwarded by pixels"]  # the middle stage does not pay
    for_people = run(*arguments)
    assert for_people.code == 0
    assert "nothing contradicts the policy" in for_people.out
    assert "exact paired trinomial" in for_people.out


def test_corrupted_rows_exit_with_5_after_the_findings_were_printed(run, calibrated):
    config, policy, folder = calibrated
    result = run("check", config, "--policy", policy, "--rows", folder / "spoilt.npz", "--json")
    assert result.code == 5
    broken = [finding["claim"] for finding in result.json["fresh"]["findings"] if finding["verdict"] == "violated"]
    assert broken
    assert all(claim in result.err for claim in broken)
    assert "calibrate again" in result.err


def test_few_rows_and_missing_labels_are_reported(run, calibrated):
    config, policy, folder = calibrated
    few = run("check", config, "--policy", policy, "--rows", folder / "fresh.npz", "--limit", 1, "--json")
    assert (few.code, few.json["fresh"]["conclusion"]) == (0, "nothing can be concluded from so few rows")
    blind = run("check", config, "--policy", policy, "--rows", folder / "unlabelled.npz", "--delta", 0.01, "--json")
    assert (blind.code, blind.json["fresh"]["delta"]) == (0, 0.01)
    assert blind.json["fresh"]["untested"] == ["max_accuracy_drop: the rows have no labels"]


def test_invalid_arguments_are_refused(run, calibrated, tmp_path):
    config, policy, folder = calibrated
    rows = ("--rows", folder / "fresh.npz")
    assert run("check", config, "--policy", policy, *rows, "--delta", 1).code == 2
    assert run("check", config, "--policy", policy, "--delta", 0.1).code == 2
    assert run("check", config, "--policy", policy, *rows, "--dataset", "cifar10").code == 2
    assert run("check", config, *rows).code == 3  # there is no policy beside this config
    np.savez(tmp_path / "narrow.npz", rows=np.zeros((5, 63)))
    assert run("check", config, "--policy", policy, "--rows", tmp_path / "narrow.npz").code == 3


MODEL = """
import numpy as np

class Model:
    def __init__(self, way):
        self.way = way

    def predict(self, rows):
        p = 1 / (1 + np.exp(-rows[:, :1]))
        if self.way == "drops rows" and len(rows) > 2:
            rows = rows[:-1]
        if self.way == "by the batch" and len(rows) > 1:
            p = np.clip(p - p.mean() + 0.4, 0, 1)
        if self.way == "logits" or (self.way == "logits for large rows" and (rows > 3).any()):
            return np.concatenate([rows[:, :1], -7 - rows[:, :1]], axis=1)
        return np.concatenate([1 - p, p], axis=1)[: len(rows)]
"""


@pytest.fixture
def one_stage(tmp_path, monkeypatch):
    """Writes a cascade of one model that fails in a way; returns its config."""
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "odd_models", raising=False)
    (tmp_path / "odd_models.py").write_text(MODEL)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", rows=rows * 4, label=(rows[:, 0] > 0).astype(int))

    def write(way):
        path = tmp_path / "config.yaml"
        stage = f'{{name: odd, backend: {{type: custom, object: "odd_models:Model", arguments: {{way: {way}}}}}}}'
        path.write_text(f"name: odd\nrows: {{shape: [3]}}\nstages: [{stage}]\n")
        Policy.from_thresholds(("odd",), np.zeros(0)).save(tmp_path / "policy.json")
        return path

    yield write
    sys.modules.pop("odd_models", None)


@pytest.mark.parametrize(
    ("way", "message"),
    [("drops rows", "was given 3 rows"), ("by the batch", "the same row as number"), ("logits", "look like logits")],
)
def test_violations_of_the_stage_contract_are_found_without_rows(run, one_stage, way, message):
    config = one_stage(way)
    result = run("check", config)
    assert (result.code, message in result.err) == (5, True), result.err
    collected = run("collect", config, "--rows", config.parent / "rows.npz", "--out", config.parent / "s.npz")
    assert collected.code == (0 if way == "by the batch" else 7)
    assert run("check", one_stage("well"), "--json").json["tried_rows"] == {"odd": 16}


def test_given_rows_are_tried(run, one_stage):
    config = one_stage("logits for large rows")
    assert run("check", config).code == 0
    result = run("check", config, "--rows", config.parent / "rows.npz")
    assert (result.code, "look like logits" in result.err) == (5, True), result.err


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise KeyError('weights')", "KeyError: 'weights'"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "SystemExit: 0"),
    ],
)
def test_the_error_names_the_stage_that_cannot_load(run, tmp_path, monkeypatch, body, problem):
    module = f"unloadable_{len(body)}"
    (tmp_path / f"{module}.py").write_text(f"class Model:\n    def __init__(self):\n        {body}\n")
    (tmp_path / "config.yaml").write_text(
        "name: unloadable\nrows: {shape: [2]}\nstages:\n"
        f"  - {{name: only, backend: {{type: custom, object: '{module}:Model'}}}}\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    result = run("check", tmp_path / "config.yaml")
    assert result.code == 3
    assert "only: loading" in result.err
    assert f"stage 'only' cannot load: {problem}" in result.err


def test_a_model_that_ends_the_process_fails_the_check_and_forked_processes_may_end(tmp_path):
    """In a process of its own, which the model would end."""
    (tmp_path / "leaving.py").write_text(LEAVING)
    (tmp_path / "config.yaml").write_text(
        "name: leaving\nrows: {shape: [2]}\nstages: [{name: only, backend: {type: custom, object: 'leaving:Model'}}]\n"
    )
    command = [sys.executable, "-m", "cascade", "check", tmp_path / "config.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, "SystemExit: 0" in result.stderr) == (5, True), result.stderr


LEAVING = """
import os

class Model:
    def __init__(self):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    def predict(self, rows):
        os._exit(0)
"""
