"""The verbs: help, exit codes, JSON, and no tracebacks."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cascade.calibration import Policy, PolicySet, ScoreTable, evaluate, judge
from cascade.cascade import Cascade
from cascade.cli.main import app

VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def test_all_verbs_exist():
    named = "build calibrate check collect data evaluate explain import init plan predict reload report schema search"
    assert {*named.split(), "serve", "status", "train"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_the_options(run, verb):
    result = run(verb, "--help")
    assert result.code == 0
    assert ("--json" in result.out) == (verb != "schema")  # which is JSON
    assert "Usage" in result.out


def test_help_shows_defaults_that_are_not_values():
    """In the help text itself, brackets would be read as markup and vanish."""
    printed = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
    assert "(the config's)" in printed
    helps = [parameter.help or "" for command in get_command(app).commands.values() for parameter in command.params]
    assert not [text for text in helps if "[" in text.replace("in [0, 1]", "")]


def test_help_of_the_command_lists_the_verbs(run):
    result = run("--help")
    assert result.code == 0
    assert all(verb in result.out for verb in VERBS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["check"],
        ["check", "config.yaml", "--no-such-option"],
        ["collect", "config.yaml", "--limit", "none"],
        ["evaluate", "--scores", "scores.npz"],
        ["evaluate", "--scores", "scores.npz", "--policy", "p.json", "--level", "2"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run, arguments):
    assert run(*arguments).code == 2


@pytest.fixture(scope="module")
def table_path(make_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "scores.npz"
    make_table(300, 3, seed=1, classes=4).save(path)
    return path


def test_a_digits_cascade_from_end_to_end(run, digits_folder, tmp_path):
    config, scores, policy = digits_folder / "config.yaml", tmp_path / "scores.npz", tmp_path / "policy.json"
    checked = run("check", config, "--json")
    assert (checked.code, checked.json["stages"]) == (0, ["pixels", "middle", "neighbours"])
    assert checked.json["policy"] is None

    options = ("--rows", digits_folder / "rows.npz", "--out", scores, "--curve-seconds", 0.2, "--json")
    collected = run("collect", config, *options)
    assert collected.code == 0, collected.err
    assert collected.json["rows"] == 900
    accuracy = collected.json["accuracy"]
    assert accuracy["neighbours"] > accuracy["pixels"] > 0.7
    assert set(collected.json["cost"]) == {"pixels", "middle", "neighbours"}

    target = accuracy["neighbours"] - 0.03
    arguments = ("calibrate", config, "--scores", scores, "--target-accuracy", target, "--out", policy, "--json")
    calibrated = run(*arguments)
    assert calibrated.code == 0, calibrated.err
    assert calibrated.json["accuracy"] > calibrated.json["bounds"]["target_accuracy"] >= target
    assert (calibrated.json["guarantee"], calibrated.json["delta"]) == ("certified", 0.05)
    assert calibrated.json["version"] == Policy.load(policy).version

    evaluated = run("evaluate", "--scores", scores, "--policy", policy, "--json")
    assert evaluated.code == 0
    replayed, judged = (
        evaluate(ScoreTable.load(scores), Policy.load(policy)),
        judge(ScoreTable.load(scores), Policy.load(policy)),
    )
    assert evaluated.json == json.loads(json.dumps(replayed.to_dict() | {"judgement": judged.to_dict()}))
    assert evaluated.json["accuracy"] == calibrated.json["accuracy"]

    again = run("check", config, "--policy", policy, "--scores", scores, "--json")
    assert (again.code, again.json["policy"]) == (0, calibrated.json["version"])
    assert again.json["score_table_rows"] == 900

    with np.load(digits_folder / "rows.npz") as file:
        rows, label = file["rows"], file["label"]
    answers = Cascade.load(config, policy).predict(rows)
    assert np.mean(answers.answer == label) == evaluated.json["accuracy"]
    assert (np.bincount(answers.stage, minlength=3) / 900).tolist() == evaluated.json["stage_share"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray
def test_a_policy_of_other_models_is_refused(run, digits_folder, tmp_path):
    folder = shutil.copytree(digits_folder, tmp_path / "digits")
    config, scores, policy = folder / "config.yaml", folder / "s.npz", folder / "policy.json"
    options = ("--rows", folder / "rows.npz", "--out", scores, "--curve-seconds", 0)
    assert run("collect", config, *options).code == 0
    calibrate = ("calibrate", config, "--scores", scores, "--max-accuracy-drop", 0.1)
    assert run(*calibrate).code == 0
    assert run("check", config, "--scores", scores).code == 0

    shutil.copy(folder / "models" / "neighbours.skops", folder / "models" / "pixels.skops")
    for arguments in (calibrate, ("check", config), ("check", config, "--policy", policy), ("serve", config)):
        result = run(*arguments)
        assert (result.code, "['pixels']" in result.err) == (3, True), arguments


def test_a_report_with_everything(run, table_path, tmp_path):
    policy, slices = tmp_path / "p.json", tmp_path / "slices.npz"
    assert run("calibrate", "--scores", table_path, "--max-accuracy-drop", 0.2, "--out", policy).code == 0
    np.savez(slices, camera=np.arange(300) % 3)
    report = ("report", "--scores", table_path, "--policy", policy, "--out", tmp_path / "r.html", "--json")
    more = ("--calibration-scores", table_path, "--delta", 0.2, "--slices", slices, "--pictures", tmp_path / "pictures")
    done = run(*report, *more)
    assert (done.code, done.json["rows"]) == (0, 300), done.err
    assert "Certified, delta = 0.2" in (tmp_path / "r.html").read_text()
    assert "By camera" in (tmp_path / "r.html").read_text()
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["flow.png", "frontier.png", "reliability.png", "risk_coverage.png"]
    assert run(*report, "--delta", 0.2).code == 2
    assert run(*report, "--calibration-scores", table_path, "--delta", 1).code == 2
    assert run(*report, "--slices", table_path).code == 3
    assert run(*report, "--pictures", slices).code == 3


def test_results_are_printed_as_tables(run, table_path, tmp_path):
    result = run("calibrate", "--scores", table_path, "--target-agreement", 0.8, "--out", tmp_path / "p.json")
    assert result.code == 0
    assert "thresholds" in result.out
    assert "stage0" in result.out


def test_the_policy_is_written_to_the_configured_path(run, digits_folder, tmp_path):
    text = (digits_folder / "config.yaml").read_text().replace("models/", f"{digits_folder}/models/")
    (tmp_path / "config.yaml").write_text(text + "policy: mine.json\n")
    (tmp_path / "digits_own_model.py").write_text((digits_folder / "digits_own_model.py").read_text())
    collected = run(
        "collect",
        tmp_path / "config.yaml",
        *("--rows", digits_folder / "rows.npz", "--limit", 50, "--no-scores", "--curve-seconds", 0),
        *("--out", tmp_path / "s.npz", "--json"),
    )
    assert (collected.code, collected.json["rows"]) == (0, 50)
    assert ScoreTable.load(tmp_path / "s.npz").scores is None
    # Without class probabilities, the last stage's temperature becomes Platt's curve.
    done = run("calibrate", tmp_path / "config.yaml", "--scores", tmp_path / "s.npz", "--max-cost", 100, "--json")
    assert done.code == 0
    kinds = [type(router.calibrator).__name__ for router in Policy.load(tmp_path / "mine.json").routers]
    assert kinds == ["Platt", "Isotonic", "Platt"]


def test_routers_are_chosen_on_the_command_line(run, table_path, tmp_path):
    out = tmp_path / "p.json"
    arguments = ("calibrate", "--scores", table_path, "--max-cost", 50, "--out", out, "--json")
    assert run(*arguments, "--routers", "deferral").code == 0
    assert [router.head.history for router in Policy.load(out).routers] == [True] * 3
    assert run(*arguments, "--routers", "margin:platt, cost_oblivious:isotonic,negative_entropy").code == 0
    policy = Policy.load(out)
    assert [router.score for router in policy.routers] == ["margin", None, "negative_entropy"]
    assert [type(router.calibrator).__name__ for router in policy.routers] == ["Platt", "Isotonic", "Identity"]
    seen = run("evaluate", "--scores", table_path, "--policy", out, "--json").json
    assert seen.items() >= json.loads(json.dumps(evaluate(ScoreTable.load(table_path), policy).to_dict())).items()
    assert run("report", "--scores", table_path, "--policy", out, "--out", tmp_path / "r.html").code == 0


def test_early_deferral_on_the_command_line(run, table_path, tmp_path):
    table = ScoreTable.load(table_path)
    # A middle stage that never helps: it is left out, or skipped.
    useless = table.prediction.copy()
    useless[:, 1] = useless[:, 0]
    dataclasses.replace(table, prediction=useless, scores=None).save(tmp_path / "s.npz")
    arguments = ("calibrate", "--scores", tmp_path / "s.npz", "--max-accuracy-drop", 0.01, "--guarantee", "none")
    plain = run(*arguments, "--out", tmp_path / "p.json", "--json").json
    early = run(*arguments, "--early-deferral", "--out", tmp_path / "q.json", "--json").json
    assert plain["defer_below"] is None
    assert list(early["defer_below"]) == [str(table.stage[0])]
    assert early["mean_cost"] <= plain["mean_cost"]
    assert Policy.load(tmp_path / "q.json").defer_below[0] == early["defer_below"][str(table.stage[0])]


@pytest.mark.parametrize("routers", ["loudness", "margin,margin", "deferral:temperature", "margin:", ""])
def test_routers_that_do_not_exist_exit_with_2(run, table_path, tmp_path, routers):
    out = tmp_path / "p.json"
    result = run("calibrate", "--scores", table_path, "--max-cost", 50, "--routers", routers, "--out", out)
    assert (result.code, out.exists()) == ((2, False) if routers != "margin:" else (0, True))


@pytest.mark.parametrize("guarantee", ["certified", "none"])
def test_a_target_out_of_reach_exits_with_4_and_names_the_nearest(run, table_path, tmp_path, guarantee):
    out = tmp_path / "p.json"
    arguments = ("calibrate", "--scores", table_path, "--guarantee", guarantee, "--out", out, "--target-accuracy")
    result = run(*arguments, 1.0)
    assert result.code == 4
    assert not out.exists()
    nearest = re.search(r"the nearest [a-z ]+ is (0\.\d+)", result.err)[1]
    assert run(*arguments, float(nearest) - 1e-5).code == 0
    assert Policy.load(out).certificate["guarantee"] == guarantee


@pytest.mark.parametrize(
    "targets",
    [
        [],
        ["--target-accuracy", 2],
        ["--target-accuracy", 0.5, "--target-agreement", 0.5],
        ["--max-cost", -1],
        ["--max-cost", 5, "--guarantee", "maybe"],
        ["--max-cost", 5, "--delta", 0],
    ],
    ids=str,
)
def test_without_exactly_one_valid_target_it_exits_with_2(run, table_path, targets):
    result = run("calibrate", "--scores", table_path, *targets)
    assert result.code == 2


def test_an_unwritable_path_exits_with_3(run, table_path, tmp_path):
    result = run("calibrate", "--scores", table_path, "--max-cost", 50, "--out", tmp_path / "none" / "p.json")
    assert result.code == 3
    assert "none" in result.err


CONFIG = """
name: broken
rows: {shape: [64], dtype: float64}
stages:
  - name: one
    backend: {type: custom, object: "broken_models:Model"}
"""
GOOD_MODULE = "class Model:\n    def predict(self, rows):\n        return [[0.5, 0.5]] * len(rows)\n"

BROKEN_CONFIGS = {
    "missing": (None, None, 3, "does not exist"),
    "empty": ("", None, 3, "keys and values"),
    "not yaml": ("a: [", None, 3, "is not YAML"),
    "unknown keys": (CONFIG + "colour: red\n", None, 3, "colour: this key is not known"),
    "no module": (CONFIG.replace("broken_models", "no_such_module"), None, 3, "cannot be imported"),
    "syntax": (CONFIG, "class Model(:\n", 3, "cannot be imported"),
    "no predict": (CONFIG, "class Model:\n    pass\n", 3, "no method predict"),
    "wrong shape": (CONFIG, GOOD_MODULE.replace("[[0.5, 0.5]] * len(rows)", "[0.5]"), 5, "must return (n, C)"),
    "raises": (CONFIG, GOOD_MODULE.replace("return", "raise RuntimeError('bad luck') #"), 5, "RuntimeError: bad luck"),
    "weights": (
        CONFIG.replace(
            '{type: custom, object: "broken_models:Model"}',
            "{type: torch, network: 'cascade.backends.networks.resnet:CifarResNet', weights: config.yaml}",
        ),
        None,
        3,
        "not a whole safetensors file",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_CONFIGS)
def test_a_broken_config_or_model_is_one_message_and_an_exit_code(run, tmp_path, monkeypatch, kind):
    text, module, code, message = BROKEN_CONFIGS[kind]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "broken_models", raising=False)
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    if module is not None:
        (tmp_path / "broken_models.py").write_text(module)
    result = run("check", tmp_path / "config.yaml", "--json")
    sys.modules.pop("broken_models", None)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert message in result.err


def test_a_model_for_other_rows_fails_the_check(run, digits_folder, tmp_path):
    text = (digits_folder / "config.yaml").read_text().replace("models/", f"{digits_folder}/models/")
    (tmp_path / "config.yaml").write_text(text.replace("[64]", "[63]"))
    result = run("check", tmp_path / "config.yaml")
    assert result.code == 5
    assert "stage 'pixels': its model failed on rows of shape (1, 63)" in result.err


@pytest.mark.parametrize("content", [None, b"", b"{}", b"{", b"\xff\xfe", b"null", b"PK\x03\x04"], ids=repr)
@pytest.mark.parametrize("what", ["policy", "table", "rows"])
def test_broken_files_exit_with_3(run, digits_folder, table_path, tmp_path, what, content):
    path = tmp_path / "broken"
    if content is not None:
        path.write_bytes(content)
    good = tmp_path / "good.json"
    Policy.from_thresholds(("stage0", "stage1", "stage2"), np.array([0.5, 0.5])).save(good)
    result = {
        "policy": lambda: run("evaluate", "--scores", table_path, "--policy", path),
        "table": lambda: run("evaluate", "--scores", path, "--policy", good),
        "rows": lambda: run("collect", digits_folder / "config.yaml", "--rows", path, "--out", tmp_path / "s.npz"),
    }[what]()
    assert result.code == 3
    assert str(path) in result.err.replace("\n", "")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": np.zeros(3, dtype=int)}, "an array 'rows'"),
        ({"rows": np.zeros((3, 64)), "label": np.zeros(3)}, "label must be 3 integers"),
        ({"rows": np.zeros((3, 64)), "label": np.zeros(2, dtype=int)}, "label must be 3 integers"),
        ({"rows": np.zeros((3, 64)), "label": np.array(["a", "b", "a"])}, 'classes: ["a", "b"]'),
        ({"rows": np.zeros((3, 64)), "label": np.array([0, -1, 2])}, 'classes: ["-1", "0", "2"]'),
        ({"rows": np.zeros((3, 64)), "labels": np.zeros(3, dtype=int)}, "did you mean 'label'?"),
        ({"rows": np.zeros((3, 64)), "weight": np.ones(3)}, "weights of rows are not supported"),
        ({"rows": np.zeros((3, 60))}, "rows must have the shape"),
        ({"rows": np.zeros((0, 64))}, "at least one row"),
        ({"rows": np.array([{}])}, "plain values"),
        ({"rows": np.float64(3)}, "an array 'rows'"),
    ],
)
def test_rows_that_do_not_match_exit_with_3(run, digits_folder, tmp_path, arrays, message):
    np.savez(tmp_path / "rows.npz", **arrays)
    result = run("collect", digits_folder / "config.yaml", "--rows", tmp_path / "rows.npz")
    assert result.code == 3
    assert message in result.err.replace("\n", " ")


def test_a_single_array_is_not_a_file_of_rows(run, digits_folder, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((3, 64)))
    result = run("collect", digits_folder / "config.yaml", "--rows", tmp_path / "rows.npy")
    assert (result.code, "single array" in result.err) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--rows", "a.npz", "--dataset", "cifar10"], ["--rows", "a.npz", "--cost", "euros"], ["--dataset", "mnist"]],
    ids=" ".join,
)
def test_rows_come_from_one_source(run, digits_folder, arguments):
    result = run("collect", digits_folder / "config.yaml", *arguments)
    assert result.code == (3 if "mnist" in arguments else 2)


def test_flops_of_a_model_that_cannot_count_them_exit_with_3(run, digits_folder, tmp_path):
    rows = digits_folder / "rows.npz"
    arguments = ("--rows", rows, "--limit", 4, "--cost", "flops", "--out", tmp_path / "s.npz")
    result = run("collect", digits_folder / "config.yaml", *arguments)
    assert (result.code, "cannot count" in result.err) == (3, True)


def test_a_table_of_other_stages_exits_with_3(run, digits_folder, table_path):
    result = run("calibrate", digits_folder / "config.yaml", "--scores", table_path, "--max-cost", 5)
    assert (result.code, "score table is of the stages" in result.err) == (3, True)


def test_an_unknown_data_set_exits_with_3(run):
    result = run("data", "mnist")
    assert (result.code, "choose one of" in result.err) == (3, True)


def test_a_broken_recipe_exits_with_3_and_lists_its_problems(run, tmp_path):
    (tmp_path / "r.yaml").write_text("network: a:B\nlearning_rate: -1\nphases: []\n")
    result = run("train", tmp_path / "r.yaml")
    assert result.code == 3
    for place in ("input: ", "learning_rate: ", "phases: "):
        assert place in result.err


def test_the_installed_command_prints_no_traceback_either(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG + "colour: red\n")
    command = [sys.executable, "-m", "cascade", "check", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "colour: this key is not known" in done.stderr
    assert "Traceback" not in done.stderr


def test_gears_make_a_policy_set_that_other_verbs_accept(run, table_path, tmp_path):
    out = tmp_path / "set.json"
    calibrate = ("calibrate", "--scores", table_path, "--guarantee", "none", "--out", out, "--json")
    done = run(*calibrate, "--max-accuracy-drop", 0.01, "--gears", "0.05,0.1")
    assert done.code == 0, done.err
    gears = PolicySet.load(out).gears
    assert [gear["version"] for gear in done.json["gears"]] == [policy.version for policy in gears]
    assert [policy.certificate["target"] for policy in gears] == [{"max_accuracy_drop": d} for d in (0.01, 0.05, 0.1)]
    assert {policy.certificate.get("delta") for policy in gears} == {None}
    costs = [
        run("evaluate", "--scores", table_path, "--policy", out, "--gear", gear, "--json").json["mean_cost"]
        for gear in range(3)
    ]
    assert costs == sorted(costs, reverse=True)
    assert run("evaluate", "--scores", table_path, "--policy", out, "--gear", 3).code == 2
    reported = ("report", "--scores", table_path, "--policy", out, "--out", tmp_path / "r.html")
    assert run(*reported, "--gear", 1, "--json").json["policy_version"] == gears[1].version
    assert run(*reported, "--gear", 3).code == 2

    alone = run(*calibrate, "--gears", "0.6,0.5")
    assert [policy.certificate["target"] for policy in PolicySet.load(out).gears] == [
        {"target_accuracy": accuracy} for accuracy in (0.6, 0.5)
    ], alone.err
    assert run(*calibrate, "--gears", "a,b").code == 2
    assert run(*calibrate, "--gears", "0.5,0.6").code == 3
