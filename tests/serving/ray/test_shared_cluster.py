"""Several cascades on one cluster: a claim of one is refused to the others, however they are deployed."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from serving_process import free_port

from cascade.benchmarks.harness.servers.ray_nodes import RayNodes
from cascade.calibration import Policy

pytestmark = [pytest.mark.serve, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
ROW = {"rows": [[1, 0]]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes whose processes import this source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with RayNodes(tmp_path_factory.mktemp("nodes")) as nodes:
            yield nodes


@pytest.fixture
def new_config(config_path, tmp_path):
    """Writes a configuration of a name and a port."""

    def new_config(name, port):
        text = config_path.read_text().replace("name: fake", f"name: {name}")
        before, _, after = text.partition("{port: ")
        folder = tmp_path / f"{name}-{port}"
        folder.mkdir()
        # The replicas of a joined cluster may use fewer resources in all than those of a local Ray.
        text = f"{before}{{port: {port}{after[after.index(',') :]}"
        text = text.replace(
            "calibrator: identity}", "calibrator: identity}\n    deployment: {ray_actor_options: {num_cpus: 0.1}}"
        )
        (folder / "config.yaml").write_text(text.replace("num_cpus: 0.5", "num_cpus: 0.1"))
        (folder / "policy.json").write_text((config_path.parent / "policy.json").read_text())
        return folder / "config.yaml"

    return new_config


@contextmanager
def started(cluster, *command, folder=None):
    """A process in a folder that has joined the cluster, its standard output and error together."""
    environment = os.environ | cluster.environment
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=folder,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def wait_for_line(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


def refusal(cluster, *command):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, timeout=90, env=os.environ | cluster.environment, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_taken_port_or_name_is_refused_with_the_name_of_its_cascade_which_serves_on(cluster, new_config):
    port = free_port()
    with started(cluster, "-m", "cascade", "serve", new_config("digits", port)) as first:
        wait_for_line(first, "policy version")
        code, text = refusal(cluster, "-m", "cascade", "serve", new_config("letters", port))
        assert (code, f"127.0.0.1:{port}: the cascade 'digits' has this port" in text) == (3, True), text
        code, text = refusal(cluster, "-m", "cascade", "serve", new_config("digits", free_port()))
        assert (code, "'digits' already, started by process" in text) == (3, True), text
        for _ in range(20):
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", json=ROW, timeout=20)
            assert (answer.status_code, httpx.get(f"http://127.0.0.1:{port}/health").json()["name"]) == (200, "digits")
        # With another name and port there is room for both.
        other = free_port()
        with started(cluster, "-m", "cascade", "serve", new_config("letters", other)) as second:
            wait_for_line(second, "policy version")
            assert httpx.get(f"http://127.0.0.1:{other}/health").json()["name"] == "letters"
        assert httpx.post(f"http://127.0.0.1:{port}/predict", json=ROW, timeout=20).status_code == 200


MODEL = """
import numpy as np


class Model:
    def predict(self, rows):
        return np.tile({probabilities}, (len(rows), 1))
"""
OWN = """
name: {name}
rows: {{shape: [2]}}
stages:
  - name: only
    backend: {{type: custom, object: "own_model:Model"}}
    deployment: {{ray_actor_options: {{num_cpus: 0.1}}}}
serving: {{port: {port}}}
"""


def test_each_cascade_runs_the_module_beside_its_own_configuration(cluster, tmp_path):
    with ExitStack() as running:
        for answer, name in enumerate(("digits", "letters")):
            folder, port = tmp_path / name, free_port()
            folder.mkdir()
            (folder / "own_model.py").write_text(MODEL.format(probabilities=[1 - answer, answer]))
            (folder / "config.yaml").write_text(OWN.format(name=name, port=port))
            Policy.from_thresholds(("only",), np.zeros(0)).save(folder / "policy.json")
            # Ray puts the folder in which a program runs on the Python path of what it starts, before all others.
            serving = started(cluster, "-m", "cascade", "serve", "config.yaml", folder=folder)
            wait_for_line(running.enter_context(serving), "policy version")
            response = httpx.post(f"http://127.0.0.1:{port}/predict", json=ROW, timeout=20)
            assert response.json()["answer"] == [answer]


RUN = """
import ray
from ray import serve
from cascade.serving.deploy.application import ServeArguments, build_app

ray.init(log_to_driver=False)
serve.start(proxy_location="Disabled")
try:
    serve.run(build_app(ServeArguments(config={config!r})), name="letters", route_prefix=None)
except RuntimeError:
    print(serve.status().applications["letters"].deployments["gateway"].message)
    serve.delete("letters")
"""


def test_a_taken_port_is_refused_to_ray_serves_own_commands_as_well(cluster, new_config, tmp_path):
    port = free_port()
    with started(cluster, "-m", "cascade", "serve", new_config("digits", port)) as first:
        wait_for_line(first, "policy version")
        script = tmp_path / "run_letters.py"
        script.write_text(RUN.format(config=str(new_config("letters", port))))
        with started(cluster, script) as second:
            wait_for_line(second, "the cascade 'digits' has this port")
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).json()["name"] == "digits"


def test_the_claims_of_a_killed_cascade_do_not_block(cluster, new_config):
    port = free_port()
    config = new_config("digits", port)
    with started(cluster, "-m", "cascade", "serve", config) as first:
        wait_for_line(first, "policy version")
        for process in [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]:
            process.kill()
        first.wait(10)
        with started(cluster, "-m", "cascade", "serve", config) as second:
            wait_for_line(second, "policy version")
            assert httpx.post(f"http://127.0.0.1:{port}/predict", json=ROW, timeout=20).status_code == 200
