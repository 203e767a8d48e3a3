"""Permissions of the keys, and errors that reveal no internals."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_service import respond

import cascade
from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.auth.guard import Guard, check_exposure
from cascade.serving.auth.keys import KeyRing
from cascade.serving.errors import Forbidden, RequestError, Unauthorized
from cascade.serving.http.http_app import HttpApp
from cascade.serving.request import Request

KEY, ADMIN_KEY = "a-key-0123456789abc", "an-admin-key-0123456789"
BEARERS = {"none": None, "wrong": "Bearer wrong", "key": f"Bearer {KEY}", "admin": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def rings(monkeypatch):
    monkeypatch.setenv("THE_KEYS", KEY)
    monkeypatch.setenv("THE_ADMIN_KEYS", ADMIN_KEY)
    return KeyRing("THE_KEYS"), KeyRing("THE_ADMIN_KEYS")


OK, NO_KEY, NOT_ALLOWED = None, Unauthorized, Forbidden
# (keys configured, admin keys configured, for admins): what no, a wrong, a good and an admin's key get.
OUTCOMES = {
    (False, False, False): (OK, OK, OK, OK),
    (False, False, True): (NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED),
    (True, False, False): (NO_KEY, NO_KEY, OK, NO_KEY),
    (True, False, True): (NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED),
    (False, True, False): (OK, OK, OK, OK),
    (False, True, True): (NO_KEY, NO_KEY, NO_KEY, OK),
    (True, True, False): (NO_KEY, NO_KEY, OK, OK),
    (True, True, True): (NO_KEY, NO_KEY, NOT_ALLOWED, OK),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_permissions_of_each_key(rings, case):
    has_keys, has_admin_keys, admin = case
    guard = Guard(rings[0] if has_keys else None, rings[1] if has_admin_keys else None)
    for bearer, outcome in zip(BEARERS.values(), OUTCOMES[case], strict=True):
        assert guard.allowed(bearer, admin) == (outcome is OK)
        if outcome is not OK:
            with pytest.raises(outcome):
                guard.check(bearer, admin)


@pytest.mark.parametrize("header", [f"bearer {KEY}", f"BEARER  {KEY} "])
def test_the_scheme_is_case_insensitive(rings, header):
    assert Guard(rings[0]).allowed(header)


@pytest.mark.parametrize("header", [KEY, f"Basic {KEY}", f"Bearer{KEY}", "Bearer ", "", f"Bearer {KEY} {KEY}"])
def test_other_headers_are_not_keys(rings, header):
    assert not Guard(rings[0]).allowed(header)


def admitted(guard, method="GET", path="/", authorization=None):
    """The status of a request, from the guard alone."""
    headers = {} if authorization is None else {"authorization": authorization}
    try:
        guard.admit(Request(method, path, headers))
    except RequestError as error:
        return error.status
    return 200


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_key(rings, path):
    assert admitted(Guard(*rings), path=path) == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/predict", "/policy", "/healthy", "/health/", "/health/../predict", "//health", "/v2/health", ""],
)
def test_every_other_path_needs_a_key(rings, path):
    guard = Guard(*rings)
    assert [admitted(guard, path=path, authorization=each) for each in BEARERS.values()] == [401, 401, 200, 200]


def test_a_request_without_a_key_gets_www_authenticate(rings, config):
    reply = asyncio.run(respond(HttpApp(Counts(config), Guard(*rings)), Request("GET", "/policy", {})))
    assert reply.status == 401
    assert ("www-authenticate", "Bearer") in reply.headers
    assert set(json.loads(reply.body)) == {"error"}


def test_two_keys_in_one_request_are_refused(rings):
    for other in ("Bearer wrong", f"Bearer {KEY}"):
        assert admitted(Guard(*rings), authorization=f"Bearer {KEY}, {other}") == 401


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/policy", "/policy/", "/policy/rollback"])
def test_only_admins_may_change_the_policy(rings, method, path):
    guard = Guard(*rings)
    assert [admitted(guard, method, path, each) for each in BEARERS.values()] == [401, 401, 403, 200]
    assert admitted(Guard(), method, path, BEARERS["admin"]) == 403


@pytest.mark.parametrize("path", ["/policy", "/dashboard", "/health", "/policy/history", "/v2"])
def test_head_needs_the_same_key_as_get(rings, path):
    for guard in (Guard(*rings), Guard()):
        for bearer in BEARERS.values():
            assert admitted(guard, "HEAD", path, bearer) == admitted(guard, "GET", path, bearer)


def test_the_policy_may_be_read_without_keys():
    assert admitted(Guard(), "GET", "/policy") == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host):
    check_exposure(ServingConfig(host=host))


@pytest.mark.parametrize("host", ["::", "", "10.0.0.1", "example.org", "127.0.0.1.example.org"])
def test_the_network_needs_keys_or_open_to_network(host):
    with pytest.raises(ConfigError, match="open_to_network: true"):
        check_exposure(ServingConfig(host=host))
    with pytest.raises(ConfigError, match="open_to_network: true"):
        check_exposure(ServingConfig(host=host, admin_keys_env="KEYS"))
    check_exposure(ServingConfig(host=host, open_to_network=True))
    check_exposure(ServingConfig(host=host, keys_env="KEYS"))
    check_exposure(ServingConfig(host=host, keys_file="keys"))


class Counts:
    """Answers with the number of rows."""

    def __init__(self, config):
        self.config = config

    async def answer_rows(self, rows, overrides):
        return {"answer": [0] * len(rows)}

    def describe_policy(self):
        return {"version": "v"}


HOSTILE = st.text(max_size=30) | st.sampled_from(
    ["/etc/passwd", "../../x", "\r\nset-cookie: a", "\0", "\ud800", "%s{0}"]
)
PATHS = (
    st.sampled_from(["/predict", "/health", "/policy", "/v2", "/v2/models/fake/infer", "/v2/health/live", "/"])
    | st.just("/policy/rollback")
    | HOSTILE
)
NAMES = st.sampled_from(
    [
        b"content-type",
        b"content-length",
        b"x-dtype",
        b"x-shape",
        b"x-timeout-ms",
        b"x-max-stage",
        b"content-encoding",
        b"authorization",
        b"accept",
        b"expect",
        b"inference-header-content-length",
    ]
)
VALUES = st.binary(max_size=40) | st.sampled_from(
    [
        b"application/json",
        b"application/octet-stream",
        b"application/x-npy",
        b"9" * 5000,
        b"-1",
        b"1e999",
        b"nan",
        b"2,2",
        b"int64",
        b"O",
        b"gzip",
        "²".encode("latin-1"),
        "٣".encode(),
    ]
)
BODIES = st.binary(max_size=100) | st.sampled_from(
    [
        b"",
        b"null",
        b'{"rows": [[1, 2]]}',
        b'{"rows": [[1e400, 2]]}',
        b'{"rows": [[{}, []]]}',
        b"[" * 100_000,
        b'{"rows":' * 9,
        b'{"rows": [[9223372036854775808, 1]]}',
        b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'shape': (99999999999, 2)}",
    ]
)
METHODS = st.just("POST") | st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]) | st.text(max_size=30)
INSIDE = (
    "Traceback",
    'File "',
    ".py",
    "Error",
    "Exception",
    "0x",
    "object at",
    "site-packages",
    str(Path(cascade.__file__).parent),
)


@settings(max_examples=600, deadline=None)
@given(METHODS, PATHS, st.lists(st.tuples(NAMES, VALUES), max_size=4), BODIES)
def test_no_request_is_an_internal_error_or_reveals_details(config, method, path, headers, body):
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    reply = asyncio.run(respond(HttpApp(Counts(config), Guard()), Request(method, path, headers, body)))
    status, answer = reply.status, reply.body
    assert status == 200 or 400 <= status < 500, answer
    if status != 200:
        content = json.loads(answer)
        assert set(content) == {"error"}
        sent = repr([method, path, headers, body])
        assert not [word for word in INSIDE if word in content["error"] and word not in sent], content
