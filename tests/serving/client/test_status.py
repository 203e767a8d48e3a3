"""``cascade status`` against a real listener without Ray, and a dashboard whose answers each test chooses."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from listener_thread import listening
from local_service import POLICY, LocalService
from server_thread import serving
from serving_process import free_port

from cascade.serving.auth.guard import Guard
from cascade.serving.auth.keys import KeyRing
from cascade.serving.http.http_app import HttpApp

KEY = "key-of-the-status-test-0123"


@contextmanager
def served(config, service=LocalService, guard=None):
    """Yields the address of a cascade without Ray."""
    with listening(HttpApp(service(config), guard or Guard()), config.serving) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def answering(content, status=200):
    """Yields the address of a server that always gives the same answer, and the requests it got."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append((self.path, self.headers.get("authorization")))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as address:
        yield address, requests


def applications(status="RUNNING", big="HEALTHY", message=""):
    """An answer of Ray's dashboard."""
    replicas = [{"state": "RUNNING"}, {"state": "RUNNING"}, {"state": "STARTING"}]
    deployments = {
        "gateway": {"status": "HEALTHY", "target_num_replicas": 3, "replicas": replicas},
        "segment-big": {"status": big, "message": message, "target_num_replicas": 1, "replicas": []},
    }
    return {"applications": {"fake": {"status": status, "message": "", "deployments": deployments}}}


def test_status_of_a_healthy_cascade(run, config):
    with served(config) as url, answering(applications()) as (ray, requests):
        result = run("status", url, "--ray", ray, "--json")
        for_people = run("status", url, "--ray", ray)
    assert result.code == 0, result.err
    status = result.json
    assert (status["live"], status["ready"], status["name"], status["problems"]) == (True, True, "fake", [])
    assert (status["policy_version"], status["guarantee"]) == (POLICY.version, "none")
    assert status["thresholds"] == {"small": 0.8}
    assert status["inputs"] == [{"name": "rows", "datatype": "INT64", "shape": [-1, 2]}]
    assert status["deployments"][0]["replicas"] == {"RUNNING": 2, "STARTING": 1}
    assert requests[0] == ("/api/serve/applications/", None)
    assert for_people.code == 0
    assert "2 running, 1 starting" in for_people.out


def test_the_token_goes_to_ray_and_the_key_to_the_cascade(run, config, monkeypatch):
    monkeypatch.setenv("CASCADE_TEST_KEYS", KEY)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token-of-ray")
    guard = Guard(KeyRing("CASCADE_TEST_KEYS"))
    with served(config, guard=guard) as url, answering(applications()) as (ray, requests):
        without = run("status", url, "--json")
        monkeypatch.setenv("MY_KEY", KEY)
        result = run("status", url, "--key-env", "MY_KEY", "--ray", ray, "--json")
    assert (without.code, without.json["policy_version"]) == (0, None)
    assert "requires a key" in without.json["notes"][0]
    assert result.json["policy_version"] == POLICY.version
    assert requests == [("/api/serve/applications/", "Bearer token-of-ray")]
    assert KEY not in result.out + result.err


@pytest.mark.parametrize(
    ("dashboard", "problem"),
    [
        (applications("DEPLOYING"), "application is DEPLOYING"),
        (applications(big="UNHEALTHY", message="it died"), "segment-big is UNHEALTHY in Ray Serve: it died"),
        ({"applications": {}}, "no application 'fake'"),
        (b"<html>", "gives no list of applications"),
    ],
    ids=["deploying", "unhealthy", "another application", "no dashboard"],
)
def test_a_problem_in_ray_serve_is_a_problem_of_the_cascade(run, config, dashboard, problem):
    with served(config) as url, answering(dashboard) as (ray, _):
        result = run("status", url, "--ray", ray, "--json")
    assert (result.code, problem in result.err.replace("\n", " ")) == (5, True), result.err
    assert result.json["live"] is True


def test_an_unready_cascade_exits_with_5_and_a_missing_one_with_3(run, config):
    class NotReady(LocalService):
        is_ready = False

    with served(config, NotReady) as url:
        result = run("status", url, "--json")
    assert (result.code, result.json["live"], result.json["ready"]) == (5, True, False)
    gone = run("status", f"http://127.0.0.1:{free_port()}", "--json")
    assert (gone.code, gone.json["reached"], gone.json["live"]) == (3, False, False)
    for other, code in (({"ok": True}, 404), ({"status": "ok"}, 200), ([], 200), (b"<html>", 302)):
        with answering(other, code) as (url, _):
            result = run("status", url)
        assert (result.code, str(code) in result.err) == (5, True), result.err


def test_the_configuration_gives_the_address_and_the_expected_policy(run, config, config_path, tmp_path):
    with served(config) as url:
        text = config_path.read_text().replace(f"port: {config.serving.port}", f"port: {url.rpartition(':')[2]}")
        (tmp_path / "config.yaml").write_text(text)
        same = run("status", tmp_path / "config.yaml", "--json")
        (tmp_path / "policy.json").write_text(POLICY.to_json().replace("0.8", "0.7"))
        other = run("status", tmp_path / "config.yaml", "--json")
    assert (same.code, same.json["url"], same.json["notes"]) == (0, url, [])
    assert "is not in policy.json" in other.json["notes"][0]
    assert other.code == 0


def test_every_gear_of_a_policy_set_is_expected(run, config, config_path, tmp_path, two_gears, monkeypatch):
    monkeypatch.setattr("local_service.POLICY", two_gears.gears[1])
    two_gears.save(tmp_path / "policy.json")
    with served(config) as url:
        text = config_path.read_text().replace(f"port: {config.serving.port}", f"port: {url.rpartition(':')[2]}")
        (tmp_path / "config.yaml").write_text(text)
        assert run("status", tmp_path / "config.yaml", "--json").json["notes"] == []


@pytest.mark.parametrize("arguments", [["none.yaml"], ["http://127.0.0.1:1", "--ray", "127.0.0.1"], ["--ca", "no.pem"]])
def test_an_unusable_argument_exits_with_3(run, arguments):
    assert run("status", *arguments).code == 3
