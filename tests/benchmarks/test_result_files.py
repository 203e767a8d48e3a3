"""The harness of experiments: command line, result file, verdict, exit code; the kept files, and their page."""

import ast
import json
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from cascade.benchmarks.errors import ResultError
from cascade.benchmarks.harness.experiment import Figure, run_experiment
from cascade.benchmarks.harness.results.quoted_figures import quotes
from cascade.benchmarks.harness.results.result_file import KEYS, RESULTS, ROOT, load_result, plain, save_result
from cascade.benchmarks.harness.results.results_page import PAGE, QUOTING_PAGE, number, results_page, with_sources
from cascade.errors import InputError

FILES = sorted(RESULTS.glob("*/*.json"))
EXPERIMENTS = ROOT / "benchmarks" / "experiments"
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize(
    ("figure", "satisfied"),
    [
        (Figure(1.0), None),
        (Figure(1.0, 1.0), True),
        (Figure(1.1, 1.0), False),
        (Figure(0.9, 1.0, ">="), False),
        (Figure(2, 2, "=="), True),
        (Figure(None, 1.0), False),
        (Figure(float("nan"), 1.0), False),
        (Figure(np.float64(3.0), 1.0, ">="), True),
    ],
)
def test_a_figure_is_satisfied_within_its_limit(figure, satisfied):
    assert figure.satisfied is satisfied
    assert json.loads(json.dumps(plain(figure.to_dict())))["satisfied"] is satisfied


def ran(monkeypatch, main, figures, *arguments, **options):
    """Exit code of an experiment that is run with some arguments."""
    monkeypatch.setattr(sys, "argv", ["experiment", *map(str, arguments)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            run_experiment(main, figures, **options)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return ended.value.code or 0


def speed(found):
    return {"speed": Figure(found["speed"], 2.0, ">=")}


def test_an_experiment_records_how_it_was_run(monkeypatch, tmp_path):
    def main(speed: float = 3.0, config: Path = Path("/a/folder/config.yaml")):
        """Measure."""
        return {"speed": np.float64(speed), "lost": float("inf"), "times": np.arange(2)}

    out = tmp_path / "new" / "result.json"
    assert ran(monkeypatch, main, speed, "--speed", 2.5, "--config", "/somewhere/else.yaml", "--out", out) == 0
    result = load_result(out)
    assert result.keys() == KEYS
    assert result["experiment"] == "benchmarks/test_result_files"
    assert result["command"].endswith("test_result_files --speed 2.5 --config else.yaml --out result.json")
    assert result["options"] == {"speed": 2.5, "config": "else.yaml"}
    assert result["found"] == {"speed": 2.5, "lost": None, "times": [0, 1]}
    assert result["figures"] == {"speed": {"value": 2.5, "sought": 2.0, "comparison": ">=", "satisfied": True}}
    assert len(result["load_average"]["before"]) == len(result["load_average"]["after"]) == 3
    assert result["date"].endswith("Z")


def test_a_missed_figure_ends_with_exit_code_6_and_is_recorded(monkeypatch, tmp_path, capsys):
    assert ran(monkeypatch, lambda: {"speed": 1.0}, speed, "--out", tmp_path / "a.json") == 6
    assert load_result(tmp_path / "a.json")["figures"]["speed"]["satisfied"] is False
    assert "speed: 1 (sought >= 2: missed)" in capsys.readouterr().out


def test_every_state_of_a_long_experiment_is_saved_and_an_error_keeps_the_last(monkeypatch, tmp_path):
    out = tmp_path / "a.json"

    def main():
        yield {"speed": 1.0}
        assert load_result(out)["found"] == {"speed": 1.0}
        yield {"speed": 2.0}
        raise InputError("no more rows")

    assert ran(monkeypatch, main, speed, "--out", out) == InputError.exit_code
    assert load_result(out)["found"] == {"speed": 2.0}
    assert list(tmp_path.iterdir()) == [out]


def test_the_picture_lies_beside_a_result_file_that_is_not_the_default(monkeypatch, tmp_path):
    def draw(found, path):
        path.write_text(str(found["speed"]))

    default = tmp_path / "default.png"
    out = tmp_path / "a.json"
    assert ran(monkeypatch, lambda: {"speed": 2.0}, speed, "--out", out, draw=draw, picture=default) == 0
    assert out.with_suffix(".png").read_text() == "2.0"
    assert not default.exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"schema_version": 2}', '{"schema_version": 1, "measured": {}}'])
def test_what_is_no_result_file_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ResultError, match=r"a\.json"):
        load_result(tmp_path / "a.json")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_figures_of_a_kept_file_are_those_of_its_experiment(file):
    result = load_result(file)
    if result["experiment"] is None:
        return
    module = import_module(f"cascade.benchmarks.experiments.{result['experiment'].replace('/', '.')}")
    figures = {name: figure.to_dict() for name, figure in module.figures(result["found"]).items()}
    assert plain(figures) == result["figures"]


def test_folders_of_experiments_and_results_are_small_and_match():
    for folder in (path for path in EXPERIMENTS.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert len(list(folder.glob("*.py"))) <= 15
        assert len(list((RESULTS / folder.name).glob("*.json"))) <= 15
    assert {file.parent.name for file in FILES} <= {folder.name for folder in EXPERIMENTS.iterdir()}


def test_an_experiment_that_yields_prints_each_figure_once_and_again_where_it_changes(monkeypatch, tmp_path, capsys):
    def main():
        """Measure."""
        yield {"first": 3.0}
        yield {"first": 3.0, "second": 1.0}
        yield {"first": 3.0, "second": 2.0}

    def figures(found):
        return {name: Figure(value) for name, value in found.items()}

    assert ran(monkeypatch, main, figures, "--out", tmp_path / "result.json") == 0
    assert capsys.readouterr().out.splitlines() == ["first: 3", "second: 1", "second: 2"]


def test_every_experiment_asks_a_question_and_names_its_command():
    for file in sorted(EXPERIMENTS.glob("*/*.py")):
        text = file.read_text(encoding="utf-8")
        if "run_experiment(main" in text:
            docstring = ast.get_docstring(ast.parse(text))
            assert docstring.partition("\n\n")[0].rstrip(".").count("?"), file
            assert f"python -m cascade.benchmarks.experiments.{file.parent.name}.{file.stem}" in docstring


def test_the_harness_imports_no_experiment():
    for file in (ROOT / "benchmarks" / "harness").rglob("*.py"):
        tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        modules = [node.module or "" for node in tree if isinstance(node, ast.ImportFrom)]
        assert [name for name in modules if name.startswith("cascade.benchmarks.experiments")] == [], file


def test_an_experiment_starts_by_its_documented_command():
    command = [sys.executable, "-m", "cascade.benchmarks.experiments.serving.bounded_wait", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--out" in done.stdout


def test_the_page_of_results_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == results_page(), "run 'make results'"
    quoting = QUOTING_PAGE.read_text(encoding="utf-8")
    assert quoting == with_sources(quoting), "run 'make results'"
    assert "serving/poisson.json](" in quoting


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), (3, "3"), (1939577, "1,939,577"), (0.23147, "0.2315"), (9235.6, "9,236")]
)
def test_numbers_of_the_page(value, text):
    assert number(value) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_figures_are_those_of_the_result_files(page):
    quoted = list(quotes(page.read_text(encoding="utf-8")))
    assert [(quote.text, quote.file, quote.figure) for quote in quoted if not quote.matches()] == []


@pytest.fixture
def results(tmp_path):
    (tmp_path / "a").mkdir()
    figures = {"p99, ms": {"value": 12.345}, "share": {"value": 0.9849}, "lost": {"value": None}}
    save_result(tmp_path / "a" / "b.json", {"figures": figures, "found": {"x": [1939577, {"y/z": -0.5}]}})
    return tmp_path


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("12.3 ms<!-- figure: a/b.json p99, ms -->", True),
        ("**12 ms**<!-- figure: a/b.json p99, ms -->", True),
        ("12.4 ms<!-- figure: a/b.json p99, ms -->", False),
        ("98 %<!-- figure: a/b.json share -->", True),
        ("98.5 %<!-- figure: a/b.json share -->", True),
        ("97 %<!-- figure: a/b.json share -->", False),
        ("0.98<!-- figure: a/b.json share -->", True),
        ("1,939,577<!-- figure: a/b.json /found/x/0 -->", True),
        ("-0.5<!-- figure: a/b.json /found/x/1/y~1z -->", True),
    ],
)
def test_a_quote_matches_at_its_own_digits(results, text, matches):
    (quote,) = quotes(f"of 7 runs: {text}, and more")
    assert quote.matches(results) is matches


@pytest.mark.parametrize("figure", ["p50", "lost", "/found/x/7", "/found/x/0/y"])
def test_a_quote_of_no_number_is_refused(results, figure):
    (quote,) = quotes(f"1<!-- figure: a/b.json {figure} -->")
    with pytest.raises(ResultError, match=r"a/b\.json"):
        quote.matches(results)


def test_a_marker_without_a_number_is_refused():
    with pytest.raises(ResultError, match="must follow a number"):
        list(quotes("many<!-- figure: a/b.json p50 -->"))
