"""The files of ``cascade build``, deployed with Ray Serve's own command on a cluster of two nodes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from serving_process import free_port

from cascade.benchmarks.harness.servers.ray_nodes import RayNodes
from cascade.calibration import Policy

pytestmark = [
    pytest.mark.serve,
    pytest.mark.slow,
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

ROOT = Path(__file__).parents[3]
DEPLOY_S = 150


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes with a dashboard, whose processes import this source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with RayNodes(tmp_path_factory.mktemp("nodes"), dashboard=True) as nodes:
            yield nodes


CONFIG = """
name: deployed
rows: {shape: [1], dtype: int64}
stages:
  - name: small
    backend: {type: custom, object: "deployed_model:Model", arguments: {sure: false}}
    deployment: {ray_actor_options: {num_cpus: 0.5}}
  - name: big
    backend: {type: custom, object: "deployed_model:Model", arguments: {sure: true}}
    deployment: {num_replicas: 2, ray_actor_options: {num_cpus: 0.5}}
"""
MODULE = '''
"""A model beside the config: right only where replicas have the environment that a cascade wants."""

import os

import numpy as np

from cascade.prediction import Prediction
from cascade.serving.deploy.cluster import REPLICAS_ENVIRONMENT


class Model:
    def __init__(self, sure):
        self.sure = sure

    def predict(self, rows):
        as_wanted = all(os.environ.get(name) == value for name, value in REPLICAS_ENVIRONMENT.items())
        answer = rows[:, 0] % 4 if as_wanted else np.full(len(rows), 9)
        return Prediction(answer, confidence=np.where((rows[:, 0] % 2 == 0) | self.sure, 0.9, 0.6))
'''


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "deployed_model.py").write_text(MODULE)
    (folder / "config.yaml").write_text(f"{CONFIG}serving: {{port: {free_port()}}}\n")
    Policy.from_thresholds(("small", "big"), np.array([0.8])).save(folder / "policy.json")
    return folder / "config.yaml"


def serve(cluster, *arguments):
    """Ray Serve's own command, as in its guide."""
    command = [str(Path(sys.executable).with_name("serve")), *arguments, "-a", cluster.dashboard_url]
    environment = os.environ | cluster.environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for(code, ask):
    """Repeats the command until it ends with a code."""
    deadline = time.monotonic() + DEPLOY_S
    while time.monotonic() < deadline:
        result = ask()
        if result.code == code:
            return result.json
        time.sleep(1)
    raise AssertionError(f"{result.out}\n{result.err}")


def test_serve_deploy_accepts_the_file_and_status_reports_it(run, cluster, config_path, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.environment["RAY_AUTH_TOKEN"])
    assert run("build", config_path, "--out", tmp_path).code == 0

    def ask():
        return run("status", config_path, "--ray", cluster.dashboard_url, "--json")

    assert ask().code == 5
    serve(cluster, "deploy", str(tmp_path / "serve.yaml"))
    status = wait_for(0, ask)
    assert (status["name"], status["application"], status["ready"]) == ("deployed", "RUNNING", True)
    found = [(each["name"], each["status"], each["replicas"], each["wanted"]) for each in status["deployments"]]
    assert found == [("gateway", "HEALTHY", {"RUNNING": 1}, 1), ("segment-big", "HEALTHY", {"RUNNING": 2}, 2)]
    first = list(range(8))
    answer = httpx.post(f"{status['url']}/predict", json={"rows": [[row] for row in first]}, timeout=20).json()
    assert answer["answer"] == [row % 4 for row in first]
    assert answer["stage"] == ["big" if row % 2 else "small" for row in first]
    assert status["policy_version"] == answer["policy_version"]
    serve(cluster, "shutdown", "-y")
    wait_for(5, ask)
