"""The application on a real Ray Serve: HTTP, the handle, Ctrl-C, and the ports of docs/security.md, loopback only."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from serving_process import NO_CERTIFICATES, serving_process

from cascade.calibration import Policy
from cascade.errors import PolicyError
from cascade.serving.deploy.cluster import running_cascade

pytestmark = [
    pytest.mark.serve,
    # Warnings of Ray itself, when it is imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SECURITY = Path(__file__).parents[3] / "docs" / "security.md"


@pytest.fixture(scope="module")
def url(config_path, tmp_path_factory):
    with serving_process(config_path, tmp_path_factory.mktemp("serve") / "log") as url:
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


def test_rows_are_answered_by_the_right_stage_in_their_order(client):
    rows = np.stack([np.arange(20), np.zeros(20, dtype=int)], axis=1)
    answer = client.post("/predict", json={"rows": rows.tolist()}).json()
    assert answer["answer"] == [row % 4 for row in range(20)]
    assert answer["stage"] == ["big" if row % 2 else "small" for row in range(20)]


def test_many_connections_at_once_each_get_their_own_answer(url):
    headers = {"content-type": "application/octet-stream"}

    def ask(row):
        with httpx.Client(timeout=20, verify=NO_CERTIFICATES) as own:
            response = own.post(f"{url}/predict", content=np.array([[row, 0]]).tobytes(), headers=headers)
        return response.json()["answer"], response.json()["stage"]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(64)))
    assert found == [([row % 4], ["big" if row % 2 else "small"]) for row in range(64)]


def test_a_bad_request_is_refused_by_the_real_server(client):
    response = client.post("/predict", content=b"\0" * 9, headers={"content-type": "application/octet-stream"})
    assert response.status_code == 400
    assert client.post("/predict", content=b"\0" * 10_000).status_code == 413
    assert client.get("/health").json()["status"] == "ok"


def test_the_handle_answers_like_http(client, config_path):
    rows = [[4, 0], [7, 0]]
    script = Path(__file__).parents[1] / "ask_by_handle.py"
    asked = subprocess.run(
        [sys.executable, script, config_path, str(rows)], capture_output=True, text=True, timeout=120
    )
    assert asked.stdout.strip() == client.post("/predict", json={"rows": rows}).text, asked.stderr


def test_the_policy_is_the_one_on_disk(client, config):
    policy = Policy.load(config.policy)
    assert client.get("/policy").json()["version"] == policy.version


def test_a_taken_port_is_refused(url, config_path, run):
    refused = run("serve", config_path, "--port", url.rpartition(":")[2])
    assert (refused.code, "choose another with --port" in refused.err) == (3, True)


def test_a_policy_of_other_stages_is_refused_before_anything_starts(config, config_path):
    other = Policy.from_thresholds(("small", "huge"), np.array([0.5]))
    with pytest.raises(PolicyError, match="huge"):
        running_cascade(config, other, config_path.parent).__enter__()


def test_ctrl_c_stops_the_server_in_order_and_a_second_one_can_run_beside_it(url, config_path, tmp_path):
    with serving_process(config_path, tmp_path / "log") as second:
        assert second != url
        answer = httpx.post(f"{second}/predict", json={"rows": [[1, 0]]}, timeout=20).json()
        assert answer["stage"] == ["big"]
    assert gone(f"{second}/health")
    assert httpx.get(f"{url}/health", timeout=20).json()["status"] == "ok"


def gone(url):
    for _ in range(50):
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            return True
        time.sleep(0.2)
    return False


@pytest.fixture(scope="module")
def listening(url):
    """(process, address, port) of every socket that the processes of a served cascade listen on."""
    return [
        (process_kind(process), socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port)
        for process in psutil.Process().children(recursive=True)
        for socket in process.net_connections()
        if socket.status == psutil.CONN_LISTEN
    ]


def process_kind(process):
    """The name of a process in docs/security.md."""
    command = " ".join(process.cmdline())
    kinds = {
        "gcs_server": "gcs_server", "raylet/raylet": "raylet", "monitor.py": "monitor", "dashboard.py": "dashboard",
        "DashboardAgent": "DashboardAgent", "RuntimeEnvAgent": "RuntimeEnvAgent", "ServeController": "ServeController",
        "ServeReplica": "ServeReplica", "cascade serve": "cascade serve",
    }  # fmt: skip
    return next((kind for part, kind in kinds.items() if part in command), command)


def listed():
    """Ports by process in the table of the docs: fixed ones as numbers, and the number of others."""
    section = SECURITY.read_text().partition("## Ports")[2].partition("\n## ")[0]
    table = {}
    for process, text in re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE):
        table[process] = f"{table.get(process, '')} {text}"
    return table


def test_no_process_listens_beyond_loopback(listening):
    assert len(listening) > 8
    assert {address for _, address, _ in listening} == {"127.0.0.1"}


def test_every_process_that_listens_is_in_the_docs_with_its_fixed_ports(url, listening):
    table = listed()
    seen = {process for process, _, _ in listening}
    # Another Ray on this machine may have taken the numbered ports first; these two have no other one.
    assert set(table) - {"monitor", "dashboard", "ProxyActor"} <= seen <= set(table)
    assert ("ServeReplica", "127.0.0.1", int(url.rpartition(":")[2])) in listening
    fixed = {int(number) for text in table.values() for number in re.findall(r"\b\d{4,5}\b", text)}
    assert fixed == {44217, 44227, 52365}
    assert fixed <= {socket.laddr.port for socket in psutil.net_connections() if socket.status == psutil.CONN_LISTEN}
