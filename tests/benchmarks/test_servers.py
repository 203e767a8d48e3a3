"""Servers in processes of their own: started, waited for, asked, raced, and stopped with their children."""

import sys

import psutil
import pytest

from cascade.benchmarks.harness.servers import server_race
from cascade.benchmarks.harness.servers.server_process import ServerProcess, cascade_server
from cascade.errors import CascadeError

SERVER = """
import http.server, json, subprocess, sys
answer, child = sys.argv[1:3]
if child == "child":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"answer": [answer], "stage": ["small"]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
print("all of it is up", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
"""
PROBE = (b"{}", {"content-type": "application/json"})


def new_server(name="peer", answer="1", child="", **options):
    return ServerProcess(name, [sys.executable, "-c", SERVER, answer, child], PROBE, **options)


def test_a_server_is_ready_when_it_answers_and_is_stopped_with_its_children():
    with new_server(child="child", up="all of it is up") as server:
        assert server.url == f"http://127.0.0.1:{server.port}/predict"
        assert b'"answer": ["1"]' in server.post(*PROBE)
        family = server.family()
        assert (len(family), server.exit_code()) == (2, None)
        assert server.processor_s() > 0
    assert server.exit_code() == 0
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)


def test_a_server_that_ends_is_reported_with_what_it_wrote():
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with pytest.raises(CascadeError, match="ended with code 1:\nno such model"), ServerProcess("peer", command, PROBE):
        pass


def test_a_cascade_is_served_by_the_command_line(tmp_path):
    server = cascade_server(tmp_path / "config.yaml", PROBE, policy=tmp_path / "other.json")
    assert server.command[1:4] == ["-m", "cascade", "serve"]
    assert server.command[4:] == [
        str(tmp_path / "config.yaml"), "--policy", str(tmp_path / "other.json"), "--port", str(server.port)
    ]  # fmt: skip


class CountingWrk:
    """Takes the place of wrk: a fixed rate for each server, which is asked once."""

    def __init__(self, bodies, headers, folder):
        self.bodies = bodies

    def run(self, url, connections, seconds):
        return {"requests": 10, "requests_per_s": 100.0, "latency_ms": {"p99": 2.0}, "seconds": seconds}


def test_a_race_leaves_out_what_does_not_start_and_compares_the_rest(monkeypatch):
    monkeypatch.setattr(server_race, "Wrk", CountingWrk)
    servers = [
        new_server("gateway"),
        new_server("same"),
        new_server("other", answer="2"),
        ServerProcess("missing", [sys.executable, "-c", "raise SystemExit(3)"], PROBE),
    ]
    with server_race.ServerRace(servers, [PROBE, PROBE]) as race:
        assert race.missing == ["missing"]
        assert race.same_answers_share(2) == {"same": 1.0, "other": 0.0}
        repeats = race.run(connections=1, seconds=1, repeats=2)
    assert [list(repeat) for repeat in repeats] == [["gateway", "same", "other"], ["other", "same", "gateway"]]
    ratio = server_race.ratios(repeats)["same"]
    assert ratio["requests_per_s_ratio"]["median"] == ratio["p99_ratio"]["median"] == 1.0


def test_a_race_needs_the_server_that_others_are_compared_with(monkeypatch):
    monkeypatch.setattr(server_race, "Wrk", CountingWrk)
    servers = [ServerProcess("gateway", [sys.executable, "-c", "raise SystemExit(3)"], PROBE)]
    with pytest.raises(CascadeError, match="gateway ended with code 3"), server_race.ServerRace(servers, [PROBE]):
        pass
