"""The application on a real Ray Serve: HTTP, the handle, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from cascade.calibration import Policy
from cascade.errors import ConfigError, PolicyError
from cascade.serving.cluster import running_cascade

pytestmark = [
    pytest.mark.serve,
    # Ray leaves sockets and event loops to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def handle(config, config_path):
    with running_cascade(config, Policy.load(config.policy), config_path.parent) as handle:
        yield handle


@pytest.fixture
def client(handle, config):
    with httpx.Client(base_url=f"http://127.0.0.1:{config.serving.port}", timeout=20) as client:
        yield client


def test_rows_are_answered_by_the_right_stage_in_their_order(client):
    rows = np.stack([np.arange(20), np.zeros(20, dtype=int)], axis=1)
    answer = client.post("/predict", json={"rows": rows.tolist()}).json()
    assert answer["answer"] == [row % 4 for row in range(20)]
    assert answer["stage"] == ["big" if row % 2 else "small" for row in range(20)]


def test_many_connections_at_once_each_get_their_own_answer(client, config):
    url = f"http://127.0.0.1:{config.serving.port}/predict"
    headers = {"content-type": "application/octet-stream"}

    def ask(row):
        with httpx.Client(timeout=20) as own:
            response = own.post(url, content=np.array([[row, 0]]).tobytes(), headers=headers)
        return response.json()["answer"], response.json()["stage"]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(64)))
    assert found == [([row % 4], ["big" if row % 2 else "small"]) for row in range(64)]


def test_a_bad_request_is_refused_by_the_real_server(client):
    response = client.post("/predict", content=b"\0" * 9, headers={"content-type": "application/octet-stream"})
    assert response.status_code == 400
    assert client.post("/predict", content=b"\0" * 10_000).status_code == 413
    assert client.get("/health").json()["status"] == "ok"


def test_the_handle_answers_like_http(handle, client):
    rows = np.array([[4, 0], [7, 0]])
    assert (
        handle.predict.remote(rows).result(timeout_s=20) == client.post("/predict", json={"rows": rows.tolist()}).json()
    )


def test_the_policy_is_the_one_on_disk(client, config):
    policy = Policy.load(config.policy)
    assert client.get("/policy").json()["version"] == policy.version


def test_a_taken_port_is_refused(handle, config, config_path):
    second = running_cascade(config, Policy.load(config.policy), config_path.parent)
    with pytest.raises(ConfigError, match="choose another"):
        second.__enter__()


def test_a_policy_of_other_stages_is_refused_before_anything_starts(config, config_path):
    other = Policy.from_thresholds(("small", "huge"), np.array([0.5]))
    with pytest.raises(PolicyError, match="huge"):
        running_cascade(config, other, config_path.parent).__enter__()


def test_the_command_serves_and_stops_cleanly_on_ctrl_c(handle, config_path, tmp_path):
    # Another port and a Ray of its own, beside the module's.
    port = 18_000 + os.getpid() % 10_000
    command = [sys.executable, "-m", "cascade", "serve", str(config_path), "--port", str(port), "--json"]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        first = json.loads(process.stdout.readline())
        assert first["serving"] == f"http://127.0.0.1:{port}"
        body = {"rows": [[1, 0]]}
        assert httpx.post(f"{first['serving']}/predict", json=body, timeout=20).json()["stage"] == ["big"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        log.close()
    assert gone(f"http://127.0.0.1:{port}/health")


def gone(url):
    for _ in range(50):
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            return True
        time.sleep(0.2)
    return False
