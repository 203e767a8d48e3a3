"""Bulk jobs as commands: killed at any moment and continued, nothing is lost, and no part is scored twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from cascade import Cascade, Policy

pytest.importorskip("pyarrow")
from bulk_cases import answers

ROWS, PART = 4000, 100
STAGES = ("small", "big")
ON_RAY = pytest.param(True, marks=[pytest.mark.serve, pytest.mark.slow], id="ray")


@pytest.fixture
def folder(tmp_path):
    """A configuration with a recording model for each stage, its policy, and rows."""
    shutil.copy(Path(__file__).with_name("bulk_model.py"), tmp_path)
    stages = []
    for name, second in zip(STAGES, (0.0005, 0.0005), strict=True):
        (tmp_path / name).mkdir()
        arguments = {"log": str(tmp_path / name), "second_per_row": second}
        arguments |= {"confidence": 0.9} if name == "big" else {}
        stages.append(
            {"name": name, "backend": {"type": "custom", "object": "bulk_model:Recorder", "arguments": arguments}}
        )
    config = {"name": "bulk", "rows": {"shape": [2], "dtype": "float64"}, "stages": stages}
    config["serving"] = {"segments": [[name] for name in STAGES]}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    policy = replace(Policy.from_thresholds(STAGES, np.array([0.8])), cost=np.array([0.1, 0.7]))
    policy.save(tmp_path / "policy.json")
    rows = np.stack([np.arange(ROWS), np.zeros(ROWS)], axis=1).astype(float)
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path


def start(folder, on_ray):
    command = [sys.executable, "-m", "cascade", "predict", "config.yaml", "--input", "rows.npy", "--output", "out"]
    command += ["--part-rows", str(PART), "--json", *(["--ray"] if on_ray else [])]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def parts(folder):
    return {path.name: path.stat().st_ino for path in (folder / "out").glob("part-*.parquet")}


def has_parts(folder, least):
    return len(parts(folder)) >= least


def scored(folder, name):
    """Indices of the rows that a stage was given, in all processes."""
    return [int(line) for file in (folder / name).glob("*.txt") for line in file.read_text().split()]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("on_ray", [pytest.param(False, id="in process"), ON_RAY])
def test_a_job_that_is_killed_twice_answers_each_row_once(folder, on_ray):
    kept = {}
    for least in (5, 15):
        process = start(folder, on_ray)
        wait_for(partial(has_parts, folder, least))
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in family if "SegmentWorker" in " ".join(child.cmdline())]
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert alive == []
        for agent in psutil.wait_procs(family, timeout=1)[1]:  # two agents of Ray outlive it for a while
            agent.kill()
        assert len(parts(folder)) < ROWS // PART
        assert kept.items() <= parts(folder).items()  # the same files, not written anew
        kept = parts(folder)
    before = {name: len(scored(folder, name)) for name in STAGES}
    process = start(folder, on_ray)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert kept.items() <= parts(folder).items()
    found = answers(folder / "out")
    assert found["row"].to_pylist() == list(range(ROWS))
    assert len(scored(folder, "small")) - before["small"] == ROWS - PART * len(kept)
    assert sorted(set(scored(folder, "big"))) == list(range(0, ROWS, 5))
    expected = Cascade.load(folder / "config.yaml").predict(np.load(folder / "rows.npy"))
    assert found["answer"].to_pylist() == expected.answer.tolist()
    assert found["confidence"].to_pylist() == expected.confidence.tolist()
    assert found["cost"].to_pylist() == expected.cost.tolist()
    assert found["stage"].to_pylist() == [STAGES[stage] for stage in expected.stage]
    assert json.loads(out)["stage_share"] == {"small": 0.8, "big": 0.2}


@pytest.mark.serve
def test_a_worker_that_is_killed_is_replaced(folder):
    process = start(folder, on_ray=True)
    wait_for(partial(has_parts, folder, 2))
    worker = int(next((folder / "big").glob("*.txt")).stem)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert answers(folder / "out")["row"].to_pylist() == list(range(ROWS))
