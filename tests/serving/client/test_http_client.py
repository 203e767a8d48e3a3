"""The command line's HTTP client: where the key goes, and what bounds an answer."""

import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from server_thread import serving

from cascade.errors import InputError
from cascade.serving.client import http_client
from cascade.serving.client.http_client import HttpClient

KEY = "key-of-the-client-test-0123"


@contextmanager
def server(body=b"{}", status=200, headers=(), pause_s=0.0):
    """Yields an address and the requests that it got; the body is sent byte by byte if there is a pause."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("content-length", 0))
            requests.append((self.command, self.path, dict(self.headers.items()), self.rfile.read(length)))
            self.send_response(status)
            for name, value in (*headers, ("content-length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [body] if not pause_s else [body[i : i + 1] for i in range(len(body))]:
                    self.wfile.write(part)
                    time.sleep(pause_s)
            except OSError:  # the client has disconnected
                pass

        def do_PUT(self):
            self.do_GET()

    with serving(Handler) as address:
        yield address, requests


def test_the_key_and_the_body_are_sent():
    with server(b'{"a": [1]}', 202) as (url, requests):
        answer = HttpClient(url + "/", KEY, None).request("PUT", "/policy", b'{"b": 2}')
    assert answer == (202, {"a": [1]})
    ((method, path, headers, body),) = requests
    assert (method, path, json.loads(body)) == ("PUT", "/policy", {"b": 2})
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == f"Bearer {KEY}"


def test_a_redirect_is_not_followed():
    with server() as (other, requests), server(b"", 302, [("location", other)]) as (url, _):
        assert HttpClient(url, KEY, None).get("/policy") == (302, "")
    assert requests == []


def test_proxies_and_passwords_of_the_environment_are_not_used(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret-password")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with server() as (proxy, requests_of_the_proxy), server() as (url, requests):
        for name in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        assert HttpClient(url, None, None).get("/") == (200, {})
    assert requests_of_the_proxy == []
    assert "authorization" not in {name.lower() for name in requests[0][2]}


def test_the_length_of_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 1000)
    with server(b'"' + b"a" * 1000 + b'"') as (url, _):
        status, reason = HttpClient(url, None, None).get("/")
    assert (status, "more than 1000 bytes" in reason) == (0, True)


def test_the_time_of_an_answer_is_bounded():
    with server(b"a" * 100, pause_s=0.05) as (url, _):
        begin = time.monotonic()
        status, reason = HttpClient(url, None, None).request("GET", "/", timeout_s=0.3)
        assert time.monotonic() - begin < 3
    assert (status, "too long" in reason) == (0, True)


def test_an_answer_that_is_not_json_is_returned_as_short_text():
    with server(b"\xff" + b"a" * 10_000, 500) as (url, _):
        status, text = HttpClient(url, None, None).get("/")
    assert (status, text[:2], len(text)) == (500, "\ufffda", http_client.LONGEST_MESSAGE)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://[::1", "http://a:99999", "ftp://a"]
)
def test_an_address_without_a_server_gives_status_0_and_a_reason(url):
    status, reason = HttpClient(url, KEY, None).get("/")
    assert (status, bool(reason), KEY in reason) == (0, True, False)


@pytest.mark.parametrize("end", ["\n", "\r\nx: y", "\u00e9"])
def test_a_key_that_a_header_cannot_carry_is_refused_without_quoting_it(end):
    with pytest.raises(InputError, match="printable ASCII") as caught:
        HttpClient("http://127.0.0.1:1", KEY + end, None)
    assert KEY not in str(caught.value)
