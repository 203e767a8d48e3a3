"""The layout: one namespace over five folders, imports that only go down, sorted public names."""

import ast
import configparser
import graphlib
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cascade

ROOT = Path(__file__).parent.parent
LINKED = ("backends", "benchmarks", "calibration", "routers")
OPTIONAL = {"aiohttp", "cv2", "mosec", "onnxruntime", "psutil", "pandas", "pyarrow"}
"""Packages of extras, or of peers that experiments compare with."""


def sources():
    """(full module name, file) of every module of the package, by its real file."""
    folders = {"cascade": ROOT / "cascade"} | {f"cascade.{name}": ROOT / name for name in LINKED}
    for prefix, folder in folders.items():
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder)
            if prefix == "cascade" and inside.parts[0] in LINKED:
                continue
            if all((folder / parent / "__init__.py").exists() for parent in inside.parents):
                parts = (*inside.parts[:-1], *(() if file.stem == "__init__" else (file.stem,)))
                yield ".".join((prefix, *parts)), file


SOURCES = dict(sources())


TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in SOURCES.items()}


def imports(name, file):
    """Full names of all modules that a file imports anywhere; names imported from a module are appended."""
    is_package = file.name == "__init__.py"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if is_package else name.rpartition(".")[0]
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


IMPORTS = {name: set(imports(name, file)) for name, file in SOURCES.items()}


def is_in(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_package_was_found():
    assert {"cascade.engine", "cascade.routers.kernel", "cascade.backends.training.trainer"} <= SOURCES.keys()


def import_or_skip(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            pytest.skip(f"{error.name} is not installed")
        raise


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's own, when it is imported
@pytest.mark.parametrize("name", SOURCES)
def test_every_module_is_imported_by_its_full_name_and_lists_sorted_names_that_exist(name):
    module = import_or_skip(name)
    assert module.__name__ == name
    assert Path(module.__file__).resolve() == SOURCES[name].resolve()
    if hasattr(module, "__all__"):
        classes_after_constants = sorted(module.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
        assert list(module.__all__) in (sorted(module.__all__), classes_after_constants)
        assert len(set(module.__all__)) == len(module.__all__)
        assert [public for public in module.__all__ if not hasattr(module, public)] == []


def test_no_folder_of_the_root_is_a_top_level_module():
    for name in ("cascade.cascade", "cascade.cli.main", "cascade.backends.loading"):
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.partition(".")[0] in LINKED]
    assert not [(name, target) for name, found in IMPORTS.items() for target in found if is_in(target, LINKED)]


@pytest.mark.parametrize("name", LINKED)
def test_links_are_relative_and_lead_to_the_root(name):
    link = ROOT / "cascade" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"  # noqa: PTH115 (the text of the link, unresolved)
    assert link.resolve() == ROOT / name


def test_packages_lists_every_folder_with_code():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    found = {name for name, file in SOURCES.items() if file.name == "__init__.py"}
    assert listed == sorted(listed)
    assert set(listed) == found
    mapped = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert mapped == {"cascade": "cascade"} | {f"cascade.{name}": name for name in LINKED}


def test_all_code_is_in_a_package():
    walked = {module.name for module in pkgutil.walk_packages(cascade.__path__, "cascade.")} | {"cascade"}
    assert SOURCES.keys() <= walked


BASE = {
    "cascade.errors",
    "cascade.files.npy",
    "cascade.files.npz",
    "cascade.files.problems",
    "cascade.files.result_files",
    "cascade.files.tables",
    "cascade.files.text_files",
    "cascade.files.zip_files",
    "cascade.html_table",
    "cascade.prediction",
}
ALLOWED = {
    "cascade.routers": BASE | {"cascade.routers"},
    "cascade.calibration": BASE | {"cascade.routers", "cascade.calibration"},
}
FORBIDDEN = {
    "cascade.calibration": {"torch", "ray", "cascade.backends"},
    "cascade.routers": {"torch", "ray", "sklearn"},
    "cascade.backends": {"ray", "cascade.calibration", "cascade.serving", "cascade.cli", "cascade.reports"},
    "cascade.reports": {"torch", "ray", "cascade.backends", "cascade.serving", "cascade.cli"},
    "cascade.serving": {"cascade.cli", "cascade.reports"},
    "cascade.datasets": {"torch", "ray", "cascade.backends", "cascade.calibration", "cascade.serving", "cascade.cli"},
    "cascade.errors": {"cascade"},
    "cascade.prediction": {"torch", "ray"},
    "cascade.engine": {"torch", "ray", "cascade.serving", "cascade.cli"},
    "cascade.cascade": {"ray", "cascade.serving", "cascade.cli"},
}
ROOMS = {
    "cascade.serving": (
        "application",
        "deploy",
        "replica",
        "http",
        "oip",
        "service",
        "policy",
        "batching",
        "audit",
        "telemetry",
        "detection",
        "bodies",
        "auth",
        "errors",
        "request",
        "review",
        "request_id",
        "client",
    ),
    "cascade.calibration": (
        "calibrate_gears",
        "calibrate",
        "calibration_run",
        "split_table",
        "choice",
        "fitting",
        "evaluation",
        "certificates",
        "search",
        "monitoring",
        "policies",
        "routing_problem",
        "table_confidence",
        "detection",
        "tables",
        "calibrators",
        "costs",
        "exact_binomial",
    ),
    "cascade.reports": ("page", "explorer", "figures", "tables", "measures", "result_file", "text"),
}
"""The folders and files of a package; each may only import those after it."""


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_stay_inside(package):
    inside = {n: found for n, found in IMPORTS.items() if is_in(n, {package})}
    assert inside
    wrong = [
        (name, target)
        for name, found in inside.items()
        for target in found
        if is_in(target, {"cascade"}) and not is_in(target, ALLOWED[package])
    ]
    assert wrong == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_only_go_down(package):
    inside = {n: found for n, found in IMPORTS.items() if is_in(n, {package})}
    assert inside
    wrong = [(name, target) for name, found in inside.items() for target in found if is_in(target, FORBIDDEN[package])]
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_those_below(package):
    place = {f"{package}.{room}": number for number, room in enumerate(ROOMS[package])}
    inside = {n: ".".join(n.split(".")[: package.count(".") + 2]) for n in SOURCES if n.startswith(f"{package}.")}
    assert set(inside.values()) == set(place)
    wrong = [
        (name, target)
        for name, room in inside.items()
        for target in IMPORTS[name]
        for other in [".".join(target.split(".")[: package.count(".") + 2])]
        if other in place and place[other] < place[room]
    ]
    assert wrong == []


def test_nothing_imports_the_benchmarks_but_their_verb():
    outside = {n for n in SOURCES if not is_in(n, {"cascade.benchmarks", "cascade.cli.bench"})}
    assert [n for n in outside if any(is_in(target, {"cascade.benchmarks"}) for target in IMPORTS[n])] == []


def loaded_after(statement):
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import cascade.calibration", {"torch", "ray", "sklearn", "matplotlib"}),
        ("import cascade.routers", {"torch", "ray", "sklearn", "scipy", "pydantic"}),
        ("import cascade.config, cascade.backends.config", {"torch", "ray", "sklearn", "scipy"}),
        ("import cascade.cascade, cascade.collection.collect", {"torch", "ray", "sklearn"}),
        ("import cascade.cli.main", {"torch", "ray", "sklearn", "matplotlib", "httpx"}),
    ],
)
def test_an_import_loads_nothing_heavy(statement, heavy):
    loaded = loaded_after(statement)
    assert "numpy" in loaded or "cli" in statement
    assert loaded & (heavy | set(LINKED)) == set()


EVERYWHERE = {"errors", "files", "html_table", "machine", "prediction", "theme"}
"""What every package may import, and no picture shows."""


def pictures():
    """The diagrams of CONTRIBUTING.md: by their number, {node: nodes that it leads to}."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for picture in re.findall(r"```mermaid\nflowchart TD\n(.*?)```", text, re.S):
        graph = {}
        for line in re.sub(r'\["[^"]*"\]', "", picture).splitlines():
            start, _, ends = line.strip().partition(" --> ")
            graph.setdefault(start, set()).update(end for end in ends.split(" & ") if end)
        yield graph


def below(graph, node):
    """The nodes that arrows lead to from a node, step by step."""
    return {node}.union(*(below(graph, end) for end in graph.get(node, ())))


def imports_between(parts):
    """(part, part) of every import, with parts as a function of a module's full name."""
    return {(parts(n), parts(t)) for n, found in IMPORTS.items() for t in found if is_in(t, {"cascade"})}


def package_of(name):
    inside = name.split(".")[1:]
    if inside in ([], ["__main__"]):
        return None  # the public face and the command import everything
    folders = {n.split(".")[1] for n in SOURCES if n.count(".") > 1} | EVERYWHERE
    return inside[0] if inside and inside[0] in folders else "cascade"


def room_of(name):
    return name.split(".")[2] if name.startswith("cascade.serving.") else None


@pytest.mark.parametrize(("number", "part"), [(0, package_of), (1, room_of)])
def test_the_pictures_of_the_house_show_what_imports_what(number, part):
    graph = list(pictures())[number]
    found = {(a, b) for a, b in imports_between(part) if a and b and a != b and not {a, b} & (EVERYWHERE - set(graph))}
    found -= {(a, b) for a, b in found if "application" in (a, b)}
    assert {node for pair in found for node in pair} <= set(graph) | {end for ends in graph.values() for end in ends}
    assert sorted(pair for pair in found if pair[1] not in below(graph, pair[0])) == []
    assert sorted((a, b) for a, ends in graph.items() for b in ends if (a, b) not in found) == []


def test_the_places_of_a_request_exist():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| a request is |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z_/]+\.py)`", table)
    assert len(named) >= 6
    assert [path for path in named if not (ROOT / path).exists()] == []


MOST_FILES = 15
MOST_LINES = 60
LEAST_LINES = 30
SMALL_FILES = {
    "cascade.backends.networks.folding": "used by training, inference and packing",
    "cascade.backends.training.objectives.cross_entropy": "one objective per file",
    "cascade.backends.torch_device": "used by training and inference",
    "cascade.calibration.exact_binomial": "used by evaluation, certificates and collection",
    "cascade.config.fields": "used by all parts of the configuration",
    "cascade.config.traces_config": "one part of the configuration per file",
    "cascade.reports.tables.report_table": "public, and used by all tables",
    "cascade.routers.logit": "used by scores, heads and calibrators",
    "cascade.serving.application": "the import path that users give to Ray Serve",
    "cascade.serving.replica.garbage": "used by gateways and later segments",
    "cascade.serving.request": "used by both listeners",
    "cascade.serving.request_id": "used by both listeners and the logs",
}


def test_no_folder_has_too_many_files():
    sizes = {}
    for file in [*SOURCES.values(), *(ROOT / "tests").rglob("*.py")]:
        folder = file.parent.relative_to(ROOT).as_posix()
        sizes[folder] = sizes.get(folder, 0) + 1
    assert {folder: size for folder, size in sizes.items() if size > MOST_FILES} == {}


def body_lines(function):
    """Lines of a function, without signature and docstring."""
    first = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - first[0].lineno + 1 if first else 0


def test_no_function_is_too_long():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [(name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kinds)]
    assert [(name, node.name) for name, node in functions if body_lines(node) > MOST_LINES] == []


def test_small_files_have_a_reason():
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in SOURCES.items()}
    small = {n for n, count in lines.items() if count < LEAST_LINES and SOURCES[n].stem not in ("__init__", "__main__")}
    assert small == SMALL_FILES.keys()


def imported_first(body):
    """Names that a module imports while it is itself imported."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Try):
            yield from imported_first(node.body)


def module_of(name):
    """The module that a dotted name is in; empty outside the package."""
    while name and name not in SOURCES:
        name = name.rpartition(".")[0]
    return name


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {name: {module_of(found) for found in imported_first(tree.body)} - {name} for name, tree in TREES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle
