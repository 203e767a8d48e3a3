"""Tests on several workers: the installed pytest and pytest-xdist deal them out as the Makefile expects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """
import os, pytest
{mark}
@pytest.mark.parametrize("k", range(6))
def test_it(k, request):
    with open({seen!r}, "a") as seen:
        seen.write(f"{{request.path.stem}} {{os.environ['PYTEST_XDIST_WORKER']}}\\n")
"""


def test_files_stay_whole_and_one_worker_starts_every_ray_first(tmp_path):
    pytest.importorskip("xdist")
    seen, ray, plain = tmp_path / "seen", ("test_b", "test_d", "test_f"), ("test_a", "test_c", "test_e", "test_g")
    for name in (*ray, *plain):
        mark = "pytestmark = pytest.mark.serve" if name in ray else ""
        (tmp_path / f"{name}.py").write_text(FILE.format(mark=mark, seen=str(seen)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = serve\n")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(Path(__file__).parent)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_XDIST")}
    options = ("-p", "xdist", "-p", "workers", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [line.split() for line in seen.read_text().splitlines()]
    assert len(runs) == 42
    assert len({worker for _, worker in runs}) == 2
    assert len({worker for file, worker in runs if file in ray}) == 1
    assert all(len({worker for file, worker in runs if file == name}) == 1 for name in plain)
    ray_worker = next(worker for file, worker in runs if file in ray)
    assert [file for file, worker in runs if worker == ray_worker][:18] == [file for file in ray for _ in range(6)]
