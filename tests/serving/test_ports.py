"""What a cascade on a Ray of its own listens on: loopback only, and what docs/security.md lists."""

import re
from pathlib import Path

import psutil
import pytest
from serving_process import serving_process

pytestmark = pytest.mark.serve

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture(scope="module")
def listening(config_path, tmp_path_factory):
    """(process, address, port) of every socket that the processes of a served cascade listen on."""
    with serving_process(config_path, tmp_path_factory.mktemp("ports") / "log") as url:
        me = psutil.Process()
        found = [
            (process_kind(process), socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port)
            for process in me.children(recursive=True)
            for socket in process.net_connections()
            if socket.status == psutil.CONN_LISTEN
        ]
        yield int(url.rpartition(":")[2]), found


def process_kind(process):
    """How docs/security.md calls a process."""
    command = " ".join(process.cmdline())
    kinds = {
        "gcs_server": "gcs_server", "raylet/raylet": "raylet", "monitor.py": "monitor", "dashboard.py": "dashboard",
        "DashboardAgent": "DashboardAgent", "RuntimeEnvAgent": "RuntimeEnvAgent", "ServeController": "ServeController",
        "ServeReplica": "ServeReplica", "cascade serve": "cascade serve",
    }  # fmt: skip
    return next((kind for part, kind in kinds.items() if part in command), command)


def listed():
    """Ports by process in the table of the docs: fixed ones as numbers, how many others."""
    section = SECURITY.read_text().partition("## Ports")[2].partition("\n## ")[0]
    table = {}
    for process, text in re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE):
        table[process] = f"{table.get(process, '')} {text}"
    return table


def test_nothing_listens_beyond_loopback(listening):
    _, found = listening
    assert len(found) > 8
    assert {address for _, address, _ in found} == {"127.0.0.1"}


def test_every_process_that_listens_is_in_the_docs_with_its_fixed_ports(listening):
    port, found = listening
    table = listed()
    seen = {process for process, _, _ in found}
    # Another Ray on this machine may have taken the numbered ports first; these two have no other one.
    assert set(table) - {"monitor", "dashboard", "ProxyActor"} <= seen <= set(table)
    assert ("ServeReplica", "127.0.0.1", port) in found
    fixed = {int(number) for text in table.values() for number in re.findall(r"\b\d{4,5}\b", text)}
    assert fixed == {44217, 44227, 52365}
    assert fixed <= {socket.laddr.port for socket in psutil.net_connections() if socket.status == psutil.CONN_LISTEN}
