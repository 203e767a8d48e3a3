"""``cascade calibrate`` warns of duplicate rows, and certifies a recall."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cascade.calibration import ScoreTable
from cascade.cli.main import app


@pytest.mark.parametrize(("distinct", "warns"), [(20, True), (200, True), (2000, False)])
def test_many_duplicates_in_a_table_get_a_warning(tmp_path, distinct, warns):
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, (distinct, 2))
    table = ScoreTable(
        answers, rng.random((distinct, 2)), np.array([1.0, 5.0]), np.array(["a", "b"]), label=answers[:, 1]
    )
    table.take(np.arange(2000) % distinct).save(tmp_path / "scores.npz")
    options = ["--scores", str(tmp_path / "scores.npz"), "--out", str(tmp_path / "policy.json")]
    result = CliRunner().invoke(app, ["calibrate", *options, "--target-agreement", "0.6"])
    assert result.exit_code == 0
    assert ("look like duplicates" in result.stderr) == warns


def detecting_table():
    rng = np.random.default_rng(0)
    label = (rng.random(5000) < 0.05).astype(np.int64)
    scores = (2 * label - 1)[:, None] * [1.2, 2.0] + rng.normal(size=(5000, 2))
    prediction = np.column_stack([np.zeros(5000, dtype=int), scores[:, 1] > -0.5])
    confidence = 1 / (1 + np.exp(scores))
    names = np.array(["no", "yes"])
    return ScoreTable(prediction, confidence, np.array([1.0, 20.0]), np.array(["a", "b"]), label=label, classes=names)


def test_duplicates_are_counted_among_all_testing_rows(tmp_path):
    detecting_table().take(np.arange(5000) % 1000).save(tmp_path / "scores.npz")
    options = ["--scores", str(tmp_path / "scores.npz"), "--out", str(tmp_path / "policy.json")]
    result = CliRunner().invoke(app, ["calibrate", *options, "--min-recall", "0.8", "--positive", "yes"])
    assert result.exit_code == 0, result.output
    assert " of 4250 testing rows look like duplicates" in result.stderr


def test_a_recall_is_certified_evaluated_and_refused(tmp_path):
    detecting_table().save(tmp_path / "scores.npz")
    scores, policy = ["--scores", str(tmp_path / "scores.npz")], str(tmp_path / "policy.json")

    def run(*arguments):
        return CliRunner().invoke(app, list(arguments))

    done = run("calibrate", *scores, "--out", policy, "--min-recall", "0.9", "--positive", "yes", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["bounds"]["min_recall"] >= 0.9
    assert facts["tested_rows"]["min_recall"] < facts["positives"] < facts["testing_rows"]
    shown = run("evaluate", *scores, "--policy", policy)
    assert "Detection of yes, by stage" in shown.stdout
    assert "product of the stages" in shown.stdout
    seen = json.loads(run("evaluate", *scores, "--policy", policy, "--json").stdout)["detection"]
    assert seen["recall"] >= 0.9
    for arguments, exit_code, message in (
        (["--min-recall", "0.9999"], 1, "positive testing rows"),
        (["--min-recall", "0.9", "--positive", "maybe"], 2, "positive must be one of the classes"),
        (["--min-recall", "0.9", "--target-accuracy", "0.9"], 2, "give one of"),
        (["--target-accuracy", "0.9", "--positive", "yes"], 2, "--positive goes with --min-recall"),
    ):
        refused = run("calibrate", *scores, "--out", policy, *arguments)
        assert refused.exit_code == exit_code
        text = f"{refused.stderr} {refused.exception}"
        assert message in " ".join(text.replace("│", " ").split())
