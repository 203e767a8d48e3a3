"""The public face: ``from cascade import ...``, light to import, listed in the reference, and stable."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cascade

ROOT = Path(__file__).parents[1]
LEAST_MODULES = {"calibration", "routers", "reports"}
LONGEST_IMPORT_S = 0.2


def in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def typed_names():
    """Name -> module of what type checkers see."""
    (block,) = (
        node
        for node in ast.parse((ROOT / "cascade" / "__init__.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
@pytest.mark.parametrize("name", sorted(typed_names()))
def test_a_public_name_is_the_object_that_type_checkers_see(name):
    module = importlib.import_module(typed_names()[name])
    assert getattr(cascade, name) is getattr(module, name)
    assert inspect.getdoc(getattr(cascade, name))


def test_the_typed_names_are_all_public_names():
    assert sorted([*typed_names(), "__version__"]) == cascade.__all__
    assert set(cascade.__all__) <= set(dir(cascade))


def test_the_reference_lists_the_public_names():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    section = page.split("## Python\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == cascade.__all__


def test_the_import_loads_nothing_and_is_quick():
    code = (
        "import json, sys, time; before = set(sys.modules); began = time.perf_counter(); import cascade; "
        "print(json.dumps([time.perf_counter() - began, sorted(set(sys.modules) - before)]))"
    )
    seconds, loaded = in_a_fresh_process(code)
    assert [name for name in loaded if name.partition(".")[0] in {"numpy", "torch", "ray", "pydantic", "scipy"}] == []
    assert [name for name in loaded if name.startswith("cascade.")] == []
    assert seconds < LONGEST_IMPORT_S


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "calibration",
            "ScoreTable Policy PolicySet calibrate evaluate judge choose_cascade InfeasibleTarget",
        ),
        ("cascade", "Cascade check_table load_stages"),
        ("config", "CascadeConfig"),
        ("stage", "Stage"),
        ("prediction", "Prediction"),
        ("engine", "Answers"),
        ("errors", "CascadeError RowsError StageError WeightsError"),
        ("routers", "answering_stage"),
        ("reports", "write_report"),
    ],
)
def test_the_modules_of_earlier_pages_hold_the_same_objects(module, names):
    found = importlib.import_module(f"cascade.{module}")
    for name in names.split():
        assert getattr(found, name) is getattr(cascade, name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("score_table", "did you mean 'ScoreTable'"),
        ("policySet", "did you mean 'PolicySet'"),
        ("loadRows", "did you mean 'load_rows'"),
        ("nonsense", r"the public names are in cascade\.__all__"),
    ],
)
def test_other_names_are_refused_with_a_hint(name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(cascade, name)


def test_the_parts_of_the_package_are_still_found():
    for part in LEAST_MODULES:
        assert importlib.import_module(f"cascade.{part}") is getattr(cascade, part)
