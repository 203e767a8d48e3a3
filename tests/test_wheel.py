"""The built wheel holds every module, under its full name."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, pkgutil, sys, cascade
names = [info.name for info in pkgutil.walk_packages(cascade.__path__, "cascade.") if info.name != "cascade.__main__"]
for name in names:
    assert importlib.import_module(name).__file__.startswith(sys.argv[1]), name
assert not {"routers", "backends", "calibration", "benchmarks"} & set(sys.modules)
print("\\n".join(sorted(names)))
"""


def test_everything_can_be_imported_from_the_wheel(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "weights", "demo", ".*_cache", "build", "results")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    output = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
    site = tmp_path / "site"
    with zipfile.ZipFile(source / output.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", IMPORT_ALL, str(site)]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert {path.suffix for path in (site / "cascade" / "reports").iterdir()} >= {".py", ".jinja", ".js"}
    assert {path.suffix for path in (site / "cascade" / "serving" / "http").iterdir()} >= {
        ".py",
        ".css",
        ".html",
        ".js",
    }
    folders = {"cascade": ROOT / "cascade"} | {
        f"cascade.{name}": ROOT / name for name in ("backends", "benchmarks", "calibration", "routers")
    }
    expected = {
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for package, folder in folders.items()
        for path in folder.rglob("*.py")
        if not {"experiments", "harness"} & set(path.parts)
    } - {"cascade", "cascade.__main__"}
    assert set(found.stdout.split()) == expected
    assert (site / "cascade" / "py.typed").exists()
    assert list((site / "cascade" / "reports").glob("*.jinja"))
