"""``cascade search``: table, JSON, files and exit codes."""

import numpy as np
import pytest

from cascade.calibration import Policy, ScoreTable, evaluate


@pytest.fixture(scope="module")
def table_path(make_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("pool") / "scores.npz"
    make_table(400, 3, seed=1).save(path)
    return path


def test_the_best_choice_with_its_files(run, table_path, tmp_path):
    policy, part = tmp_path / "policy.json", tmp_path / "part.npz"
    result = run(
        "search", "--scores", table_path, "--max-accuracy-drop", 0.05, "--hop-cost", 0.2, "--out", policy,
        "--out-scores", part, "--json",
    )  # fmt: skip
    assert result.code == 0
    assert result.json["goal"] == {"max_accuracy_drop": 0.05}
    assert result.json["method"] == "all orders"
    best = result.json["choices"][0]
    assert Policy.load(policy).stages == tuple(best["stages"])
    assert Policy.load(policy).thresholds.tolist() == best["thresholds"]
    assert ScoreTable.load(part).stage.tolist() == best["stages"]
    assert len(result.json["verdicts"]) >= 2
    again = run("calibrate", "--scores", part, "--max-cost", 1000, "--out", tmp_path / "again.json")
    assert again.code == 0


def test_the_printed_table(run, table_path):
    result = run("search", "--scores", table_path, "--target-accuracy", 0.7, "--deadline", 20, "--max-stages", 2)
    assert result.code == 0
    assert "stage0" in result.out
    assert "chosen on 200 rows" in " ".join(result.out.split())
    assert "cannot be compared: it misses the deadline" in " ".join(result.out.split())
    assert "stage 3 (stage2) is too slow for the deadline:" in " ".join(result.out.split())


def test_the_order_of_a_policy(run, table_path, tmp_path):
    given, found = tmp_path / "given.json", tmp_path / "found.json"
    Policy.from_thresholds(("stage0", "stage1", "stage2"), np.array([0.6, np.nextafter(1, 2)])).save(given)
    result = run("search", "--scores", table_path, "--policy", given, "--out", found, "--json")
    assert result.code == 0
    assert result.json["best"]["stages"] == ["stage0", "stage2"]
    table = ScoreTable.load(table_path).select(["stage0", "stage2"])
    assert evaluate(table, Policy.load(found)).stage_share[0] > 0.5
    result = run("search", "--scores", table_path, "--policy", given)
    assert result.code == 0
    assert "the best order saves" in result.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--max-cost", 5, "--target-accuracy", 0.5], 2),
        (["--max-cost", 5, "--policy", "policy.json"], 2),
        (["--max-cost", 5, "--hop-cost", -1], 2),
        (["--max-cost", 5, "--deadline", -1], 2),
        (["--max-cost", 5, "--max-stages", 0], 2),
        (["--policy", "no-such.json"], 3),
        (["--target-accuracy", 1.0], 4),
        (["--max-cost", 0.5], 4),
        (["--max-cost", 5, "--deadline", 0.5], 4),
    ],
    ids=str,
)
def test_exit_codes(run, table_path, arguments, code):
    result = run("search", "--scores", table_path, *arguments)
    assert result.code == code
    assert result.out == ""


def test_a_table_that_does_not_exist(run, tmp_path):
    result = run("search", "--scores", tmp_path / "none.npz", "--max-cost", 5)
    assert result.code == 3
    assert "does not exist" in result.err
