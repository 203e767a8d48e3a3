"""Who may ask what, and that nothing of the inside is told to anybody."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascade
from cascade.config import ServingConfig
from cascade.errors import ConfigError
from cascade.serving.errors import Forbidden, Unauthorized
from cascade.serving.guard import Guard, GuardedApp, check_exposure
from cascade.serving.http import HttpApp
from cascade.serving.keys import KeyRing

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
def test_who_may_ask_what(rings, case):
    has_keys, has_admin_keys, admin = case
    guard = Guard(rings[0] if has_keys else None, rings[1] if has_admin_keys else None)
    for bearer, outcome in zip(BEARERS.values(), OUTCOMES[case], strict=True):
        assert guard.allowed(bearer, admin) == (outcome is OK)
        if outcome is not OK:
            with pytest.raises(outcome):
                guard.check(bearer, admin)


@pytest.mark.parametrize("header", [f"bearer {KEY}", f"BEARER  {KEY} "])
def test_the_scheme_may_have_any_case(rings, header):
    assert Guard(rings[0]).allowed(header)


@pytest.mark.parametrize("header", [KEY, f"Basic {KEY}", f"Bearer{KEY}", "Bearer ", "", f"Bearer {KEY} {KEY}"])
def test_other_headers_are_no_key(rings, header):
    assert not Guard(rings[0]).allowed(header)


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def ask(application, method="GET", path="/", headers=(), body=b""):
    """(status, headers, body) of one ASGI request."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "query_string": b""}
    asyncio.run(application(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def bearer(name):
    return [] if BEARERS[name] is None else [(b"authorization", BEARERS[name].encode())]


@pytest.mark.parametrize("path", ["/health", "/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_key(rings, path):
    assert ask(GuardedApp(app, Guard(*rings)), path=path)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/predict", "/policy", "/healthy", "/health/", "/health/../predict", "//health", "/v2/health", ""],
)
def test_everything_else_does(rings, path):
    guarded = GuardedApp(app, Guard(*rings))
    status, headers, body = ask(guarded, path=path)
    assert status == 401
    assert headers[b"www-authenticate"] == b"Bearer"
    assert set(json.loads(body)) == {"error"}
    assert ask(guarded, path=path, headers=bearer("wrong"))[0] == 401
    assert ask(guarded, path=path, headers=bearer("key"))[0] == 200


def test_two_keys_at_once_are_none(rings):
    assert ask(GuardedApp(app, Guard(*rings)), headers=bearer("key") + bearer("wrong"))[0] == 401
    assert ask(GuardedApp(app, Guard(*rings)), headers=bearer("key") + bearer("key"))[0] == 401


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/policy", "/policy/"])
def test_the_policy_is_changed_by_admins_only(rings, method, path):
    guarded = GuardedApp(app, Guard(*rings))
    assert [ask(guarded, method, path, bearer(name))[0] for name in BEARERS] == [401, 401, 403, 200]
    assert ask(GuardedApp(app, Guard()), method, path, bearer("admin"))[0] == 403


def test_the_policy_may_be_read_without_keys():
    assert ask(GuardedApp(app, Guard()), "GET", "/policy")[0] == 200


def test_what_is_not_http_is_passed_on():
    seen = []

    async def other(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(GuardedApp(other, Guard())({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host):
    check_exposure(ServingConfig(host=host))


@pytest.mark.parametrize("host", ["::", "", "10.0.0.1", "example.org", "127.0.0.1.example.org"])
def test_the_network_needs_keys_or_a_word(host):
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

    async def answer_rows(self, rows, timeout_s=None):
        return {"answer": [0] * len(rows)}

    def describe_policy(self):
        return {"version": "v"}


HOSTILE = st.text(max_size=30) | st.sampled_from(
    ["/etc/passwd", "../../x", "\r\nset-cookie: a", "\0", "\ud800", "%s{0}"]
)
PATHS = (
    st.sampled_from(["/predict", "/health", "/policy", "/v2", "/v2/models/fake/infer", "/v2/health/live", "/"])
    | HOSTILE
)
NAMES = st.sampled_from(
    [
        b"content-type",
        b"content-length",
        b"x-dtype",
        b"x-shape",
        b"x-timeout-ms",
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
def test_no_request_is_an_internal_error_or_tells_of_the_inside(config, method, path, headers, body):
    status, _, answer = ask(GuardedApp(HttpApp(Counts(config)), Guard()), method, path, headers, body)
    assert status == 200 or 400 <= status < 500, answer
    if status != 200:
        content = json.loads(answer)
        assert set(content) == {"error"}
        sent = repr([method, path, headers, body])
        assert not [word for word in INSIDE if word in content["error"] and word not in sent], content
