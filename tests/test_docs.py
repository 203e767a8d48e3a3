"""The pages of the documentation: their code runs as it is printed, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

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


LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)|src="([^"]+)"')


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page):
    targets = [first or second for first, second in LINK.findall(page.read_text(encoding="utf-8"))]
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []
