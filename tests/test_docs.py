"""The pages of the documentation: their code runs as printed, and their links exist."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from cascade.calibration import ScoreTable
from cascade.rows.rows_file import load_rows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"# exit code (\d)")


def blocks(page):
    """(language, text) of every block, in order."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_tutorial_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, text in blocks("tutorial.md"):
        if language == "python":
            exec(compile(text, "tutorial.md", "exec"), {})  # noqa: S102 (our own page)
            continue
        for line in filter(lambda line: line.startswith("cascade "), text.splitlines()):
            expected = EXIT_CODE.search(line)
            result = run(*shlex.split(line, comments=True)[1:])
            assert result.code == int(expected[1] if expected else 0), (line, result.err)
            commands += 1
    assert commands == 10
    assert np.load("held_out.npz")["label"].shape == (597,)


def code_with(page, text):
    """The one block of Python that holds a text."""
    (block,) = (code for language, code in blocks(page) if language == "python" and text in code)
    return compile(block, page, "exec")


def test_the_lines_for_weighted_rows_leave_rows_as_they_come_in_the_traffic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hard = np.arange(20_000) % 2  # half of the table is hard, a twentieth of the traffic
    arrays = {"prediction": hard[:, None], "label": np.zeros_like(hard), "confidence": np.full((len(hard), 1), 0.5)}
    weight = np.where(hard, 0.05 / 0.5, 0.95 / 0.5)
    np.savez("weighted.npz", **arrays, cost=np.ones(1), stage=np.array(["a"]), cost_unit="s", sample_weight=weight)
    exec(code_with("tune.md", "sample_weight"), {})  # noqa: S102 (our own page)
    table = ScoreTable.load("scores.npz")
    assert table.cost_unit == "s"
    assert len(table) == pytest.approx(10_000 / 0.95, rel=0.02)
    assert 1 - table.correct.mean() == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / len(table)) ** 0.5)


def test_the_lines_for_texts_write_a_file_of_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"mails": ["hello", "buy now"], "folders": ["inbox", "spam"]}
    exec(code_with("tune.md", "save_rows"), names)  # noqa: S102 (our own page)
    rows, label = load_rows("labelled.npz", ("inbox", "spam"))
    assert (rows.tolist(), label.tolist()) == (names["mails"], [0, 1])


@pytest.mark.parametrize("module", ["cascade.cascade", "cascade.backends.fake_backend"])
def test_the_examples_of_docstrings_run(module):
    results = doctest.testmod(importlib.import_module(module))
    assert (results.failed, results.attempted > 0) == (0, True)


LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)|src="([^"]+)"')


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page):
    targets = [first or second for first, second in LINK.findall(page.read_text(encoding="utf-8"))]
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []
