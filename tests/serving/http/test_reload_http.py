"""Reload over HTTP and by ``cascade reload``, with the real listener and without Ray."""

import json

import numpy as np
import pytest
from listener_thread import listening
from local_service import POLICY, LocalService, ask

from cascade.calibration import Policy
from cascade.serving.auth.guard import Guard
from cascade.serving.auth.keys import KeyRing
from cascade.serving.http.http_app import HttpApp

KEY, ADMIN_KEY = "a-key-of-16-letters", "an-admin-key-of-16-letters"
OTHER = Policy.from_thresholds(("small", "big"), np.array([0.5]))


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.setenv("THE_KEYS", KEY)
    monkeypatch.setenv("THE_ADMIN_KEYS", ADMIN_KEY)
    return Guard(KeyRing("THE_KEYS"), KeyRing("THE_ADMIN_KEYS"))


@pytest.fixture
def url(config, guard):
    service = LocalService(config)
    with listening(HttpApp(service, guard), config.serving) as port:
        yield f"http://127.0.0.1:{port}"


def put(content, key=ADMIN_KEY, path="/policy", method="PUT"):
    return {"method": method, "url": path, "content": content, "headers": {"authorization": f"Bearer {key}"}}


def test_a_reload_needs_an_admin_key(config, guard):
    service = LocalService(config)
    paths = ("/policy", "PUT"), ("/policy/rollback", "POST")
    requests = [put(OTHER.to_json(), key, path, method) for key in ("wrong", KEY) for path, method in paths]
    assert [each.status_code for each in ask(service, *requests, guard=guard)] == [401, 401, 403, 403]
    assert service.policies.policy == POLICY


def test_a_downloaded_policy_can_be_put_back(config, guard):
    service = LocalService(config)
    get = {"method": "GET", "url": "/policy", "headers": {"authorization": f"Bearer {KEY}"}}
    (downloaded,) = ask(service, get, guard=guard)
    (changed,) = ask(service, put(OTHER.to_json()), guard=guard)
    (back,) = ask(service, put(downloaded.content), guard=guard)
    assert (changed.json()["version"], back.json()["version"]) == (OTHER.version, POLICY.version)
    assert service.policies.policy == POLICY


@pytest.mark.parametrize("body", ["[]", '{"version": 7}', '{"other": "x"}', "{"])
def test_an_invalid_rollback_is_refused(config, guard, body):
    (response,) = ask(LocalService(config), put(body, path="/policy/rollback", method="POST"), guard=guard)
    assert (response.status_code, set(response.json())) == (400, {"error"})


def test_a_gateway_without_the_new_policy_makes_it_a_202(config, guard, monkeypatch):
    service = LocalService(config)

    async def behind(_):
        return {"version": "v", "behind": [{"node": "n", "pid": 1, "revision": 0}]}

    monkeypatch.setattr(service.policies, "replace", behind)
    (response,) = ask(service, put("{}"), guard=guard)
    assert response.status_code == 202


def test_a_request_may_limit_the_last_stage(config):
    def predict(**headers):
        return {"method": "POST", "url": "/predict", "json": {"rows": [[0, 0], [1, 0]]}, "headers": headers}

    limited, whole, unknown = ask(
        LocalService(config), predict(**{"x-max-stage": "small"}), predict(), predict(**{"x-max-stage": "huge"})
    )
    assert (limited.json()["stage"], limited.json()["degraded"]) == (["small", "small"], [False, True])
    assert limited.json()["policy_version"] == whole.json()["policy_version"] == POLICY.version
    assert (whole.json()["stage"], whole.json()["degraded"]) == (["small", "big"], [False, False])
    assert (unknown.status_code, "one of small, big" in unknown.json()["error"]) == (400, True)

    serving = config.serving.model_copy(update={"least_max_stage": "big"})
    (raised,) = ask(LocalService(config.model_copy(update={"serving": serving})), predict(**{"x-max-stage": "small"}))
    assert raised.json()["stage"] == ["small", "big"]


def test_an_inference_request_may_limit_the_last_stage(config):
    tensor = {"name": "rows", "datatype": "INT64", "shape": [1, 2], "data": [1, 0]}

    def infer(name):
        body = {"inputs": [tensor], "parameters": {"max_stage": name}}
        return {"method": "POST", "url": "/v2/models/fake/infer", "json": body}

    small, big, wrong = ask(LocalService(config), infer("small"), infer("big"), infer(7))
    assert [each.json()["parameters"]["stage"] for each in (small, big)] == ["small", "big"]
    assert wrong.status_code == 400


def test_reload_and_rollback_by_the_command_line(run, url, config_path, tmp_path, monkeypatch):
    OTHER.save(tmp_path / "other.json")
    monkeypatch.setenv("CASCADE_ADMIN_KEY", ADMIN_KEY)
    done = run("reload", url, "--policy", tmp_path / "other.json", "--json")
    assert (done.code, done.json["version"], done.json["revision"]) == (0, OTHER.version, 1), done.err
    assert run("reload", url, "--rollback", "--json").json["version"] == POLICY.version
    back = run("reload", url, "--rollback", "--version", OTHER.version, "--json")
    assert back.json["version"] == OTHER.version
    unknown = run("reload", url, "--rollback", "--version", "never")
    assert (unknown.code, "'never'" in unknown.err) == (3, True)


def test_errors_of_the_command_line(run, url, config_path, tmp_path, monkeypatch):
    monkeypatch.delenv("CASCADE_ADMIN_KEY", raising=False)
    OTHER.save(tmp_path / "other.json")
    (tmp_path / "half.json").write_text(OTHER.to_json()[:-30])
    Policy.from_thresholds(("small", "huge"), np.array([0.5])).save(tmp_path / "huge.json")
    (tmp_path / "key").write_text(f"# comment\nme: {ADMIN_KEY}\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "wrong").write_text(KEY)
    (tmp_path / "wrong").chmod(0o600)
    (tmp_path / "open").write_text(ADMIN_KEY)
    (tmp_path / "open").chmod(0o644)
    good, key = ("--policy", tmp_path / "other.json"), ("--key-file", tmp_path / "key")
    cases = [
        ((url, *good), 3, "no admin key"),
        ((url, *good, "--key-env", "NOT_SET"), 3, "NOT_SET"),
        ((url, *good, "--key-file", tmp_path / "wrong"), 3, "refuses the admin key"),
        ((url, *good, "--key-file", tmp_path / "open"), 3, "chmod"),
        ((url, "--policy", tmp_path / "half.json", *key), 3, "half.json"),
        ((url, "--policy", tmp_path / "none.json", *key), 3, "none.json"),
        ((url, "--policy", tmp_path / "huge.json", *key), 3, "huge"),
        ((url, *key), 2, "address"),
        ((url, *good, *key, "--rollback"), 2, "either"),
        ((url, *good, *key, "--version", "x"), 2, "--rollback"),
        (("http://127.0.0.1:9", *good, *key), 3, "no cascade answers"),
        (("ftp://127.0.0.1", *good, *key), 3, "http://"),
        ((tmp_path / "no.yaml", *good, *key), 3, "no.yaml"),
        ((url, *good, *key), 0, ""),
    ]
    for arguments, code, message in cases:
        result = run("reload", *arguments)
        assert (result.code, message in result.err) == (code, True), (arguments, result.err)
        assert ADMIN_KEY not in result.err + result.out


def test_the_configuration_gives_address_key_and_policy(run, config, guard, tmp_path, config_path):
    key = tmp_path / "admins"
    key.write_text(ADMIN_KEY)
    key.chmod(0o600)
    with listening(HttpApp(LocalService(config), guard), config.serving) as port:
        text = config_path.read_text().replace(f"port: {config.serving.port}", f"port: {port}, admin_keys_file: {key}")
        (tmp_path / "config.yaml").write_text(text)
        OTHER.save(tmp_path / "policy.json")
        done = run("reload", tmp_path / "config.yaml", "--json")
    assert (done.code, done.json["version"], json.loads(done.out)["gateways"]) == (0, OTHER.version, 1), done.err
