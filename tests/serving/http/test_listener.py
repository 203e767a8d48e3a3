"""The listener with slow, hostile and faulty clients on raw sockets, and a small application."""

import asyncio
import contextlib
import json
import random
import re
import socket
import threading
import time
from pathlib import Path

import pytest
import uvloop
from listener_thread import listening, rest

from cascade.config import ServingConfig
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import Forbidden
from cascade.serving.http.reply import Reply, error_reply

GOOD = b"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\nabc"
LIMITS = {
    "max_header_bytes": 4096,
    "header_timeout_s": 0.4,
    "body_timeout_s": 0.6,
    "keep_alive_timeout_s": 1,
}


class Echo:
    """Answers with path and body; waits on /slow, has a long answer on /big, refuses /closed."""

    def __init__(self):
        self.seen = []
        self.cancelled = 0

    def admit(self, request):
        if request.path == "/closed":
            raise Forbidden("closed")

    def error_reply(self, error):
        return error_reply(error)

    async def answer(self, request):
        self.seen.append(request)
        if request.path == "/slow":
            try:
                await asyncio.sleep(0.8)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if request.path == "/big":
            return Reply(b"x" * 8_000_000)
        return Reply(json.dumps({"path": request.path, "body": request.body.decode("latin-1")}).encode())


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def port(request):
    with listening(Echo(), ServingConfig(**LIMITS), request.param) as port:
        yield port


@contextlib.contextmanager
def connected(port, *parts):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for part in parts:
            client.sendall(part)
        yield client


def ask(port, *parts):
    """The server's answer to bytes, until it closes the connection."""
    with connected(port, *parts) as client:
        return rest(client)


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def error_of(received):
    header, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in header
    assert b"content-type: application/json" in header
    content = json.loads(body)
    assert set(content) == {"error"}
    return content["error"]


def post(path="/predict", *headers, body=b""):
    lines = [f"POST {path} HTTP/1.1".encode(), b"host: here", *headers, b"", body]
    return b"\r\n".join(lines)


CLOSE = b"connection: close"


def test_a_valid_request_is_answered_and_the_connection_stays_open_for_a_while(port):
    start = time.monotonic()
    received = ask(port, GOOD)
    assert statuses(received) == [200]
    assert b'"body": "abc"' in received
    assert b"server:" not in received
    assert 0.8 < time.monotonic() - start < 3


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"POST", b"POST /predict HTTP/1.1\r\nhost: here\r\nx-a: "])
def test_an_incomplete_header_ends_the_connection(port, begun):
    start = time.monotonic()
    received = ask(port, begun)
    assert time.monotonic() - start < 1.5
    assert (statuses(received) == [408]) == begun.startswith(b"POST")
    if received:
        assert error_of(received) == "the header of the request did not arrive within 0.4 s"


def drip(client, data, every_s=0.05):
    """Sends byte by byte until the server closes."""
    with contextlib.suppress(OSError):
        for byte in data:
            client.send(bytes([byte]))
            time.sleep(every_s)


@pytest.mark.parametrize(
    ("start_of_request", "status"),
    [(b"", 408), (b"POST /predict HTTP/1.1\r\ncontent-length: 100\r\n\r\n", 408)],
    ids=["header", "body"],
)
def test_sending_byte_by_byte_does_not_extend_the_timeout(port, start_of_request, status):
    with connected(port, start_of_request) as client:
        start = time.monotonic()
        threading.Thread(target=drip, args=(client, GOOD * 2), daemon=True).start()
        assert statuses(rest(client)) in ([status], [])
        assert time.monotonic() - start < 2


def test_line_ends_between_requests_do_not_keep_a_connection_open(port):
    with connected(port, GOOD) as client:
        time.sleep(0.2)
        start = time.monotonic()
        drip(client, b"\r\n" * 40)
        assert time.monotonic() - start < 2
        assert statuses(rest(client)) in ([200], [])


def test_a_body_that_does_not_arrive_is_a_408(port):
    received = ask(port, post("/predict", b"content-length: 9", body=b"abc"))
    assert statuses(received) == [408]
    assert error_of(received) == "the body of the request did not arrive within 0.6 s"


def test_a_slow_answer_is_not_a_slow_request(port):
    """The body of the second request may wait too, since it is not read meanwhile."""
    received = ask(port, post("/slow") + post("/slow", CLOSE, b"content-length: 2", body=b"b"), b"c")
    assert statuses(received) == [200, 200]
    assert b'"body": "bc"' in received


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nx-long: ", b"a" * 100_000],
        [b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n"],
        [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n"],
        [b"GET / HTTP/1.1\r\n", *[b"x: %s\r\n" % (b"a" * 100)] * 60],
    ],
    ids=["endless field", "long path", "many fields", "many bytes"],
)
def test_a_header_flood_is_refused(port, parts):
    with connected(port) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for part in parts:
                client.sendall(part)
                time.sleep(0.001)
        received = rest(client)
    assert statuses(received) in ([431], [])
    if len(parts) == 1:
        assert "header" in error_of(received)


def test_the_header_of_a_pipelined_request_is_counted_too(port):
    received = ask(port, post("/first") + post("/predict", CLOSE, b"x: " + b"a" * 5000))
    assert statuses(received) == [200, 431]


def test_a_header_of_the_largest_size_is_accepted(port):
    assert statuses(ask(port, post("/predict", CLOSE, b"x: " + b"a" * 3900))) == [200]
    assert statuses(ask(port, post("/predict", CLOSE, *[b"a: b"] * 97))) == [200]


CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize("endless", [b"5;" + b"x" * 50_000, b"0\r\nx: " + b"a" * 50_000], ids=["extension", "trailer"])
def test_endless_chunk_sizes_and_trailers_are_refused(port, endless):
    with connected(port, post("/predict", CHUNKED)) as client:
        time.sleep(0.05)
        client.sendall(endless)
        received = rest(client)
    assert statuses(received) in ([431], [])


def test_trailers_are_not_headers():
    echo = Echo()
    with listening(echo, ServingConfig(**LIMITS)) as port:
        body = b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n"
        assert statuses(ask(port, post("/predict", CHUNKED, CLOSE, body=body))) == [200]
    assert list(echo.seen[0].headers) == ["host", "transfer-encoding", "connection"]


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: here\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        (b"content-length: 4", CHUNKED),
        (CHUNKED, b"content-length: 4"),
        (b"content-length: 4", b"content-length: 5"),
        (b"content-length: 4", b"content-length: 4"),
        (b"content-length: 4, 5",),
        (b"content-length: +4",),
        (b"content-length: -1",),
        (b"content-length: 0x4",),
        (b"content-length: 99999999999999999999999",),
        (b"content-length : 4",),
        (b"transfer-encoding: identity",),
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding : chunked",),
        (b"x: a\r\n transfer-encoding: chunked",),
        (b"x: a\ntransfer-encoding: chunked",),
        (b"x: a\0b",),
        (b"x\0: b",),
    ],
)
def test_a_request_with_an_ambiguous_length_is_refused(port, headers):
    received = ask(port, post("/predict", *headers, body=b"0\r\n\r\n" + SMUGGLED))
    assert b"smuggled" not in received
    assert statuses(received) == [400]
    assert error_of(received) == "the request is not valid HTTP/1.1"


@pytest.mark.parametrize("chunks", [b"zz\r\nabc\r\n0\r\n\r\n", b"-1\r\n", b"1\nab\n0\n\n", b"3\r\nabcd\r\n0\r\n\r\n"])
def test_invalid_chunks_are_refused(port, chunks):
    received = ask(port, post("/predict", CHUNKED, body=chunks + SMUGGLED))
    assert b"smuggled" not in received
    assert statuses(received) == [400]


def test_pipelined_requests_are_answered_in_order(port):
    requests = [post(f"/{number}") for number in range(20)]
    received = ask(port, b"".join(requests) + post("/last", CLOSE))
    assert re.findall(rb'"path": "/(\w+)"', received) == [*(b"%d" % n for n in range(20)), b"last"]


def test_invalid_bytes_after_a_request_get_an_error_after_its_answer(port):
    received = ask(port, post("/slow") + b"rubbish\r\n\r\n")
    assert statuses(received) == [200, 400]
    assert b'"path": "/slow"' in received


def test_the_first_of_too_many_pipelined_requests_are_answered(port):
    received = ask(port, post("/slow") + post("/") * 150)
    assert statuses(received) == [200] * 100 + [431]


def test_a_refused_request_keeps_the_connection_and_its_body_is_discarded():
    echo = Echo()
    with listening(echo, ServingConfig(**LIMITS)) as port:
        received = ask(port, post("/closed", b"content-length: 3", body=b"abc") + post("/predict", CLOSE))
    assert statuses(received) == [403, 200]
    assert [request.path for request in echo.seen] == ["/predict"]


@pytest.mark.parametrize(("path", "status"), [("/predict", 200), ("/closed", 403)])
def test_expect_100_continue_is_answered_before_the_body(port, path, status):
    with connected(port, post(path, b"expect: 100-continue", b"content-length: 3", CLOSE)) as client:
        first = client.recv(1 << 16)
        if status == 200:
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"abc")
            first = rest(client)
    assert statuses(first) == [status]


@pytest.mark.parametrize("announced", [b"content-length: 5000000", CHUNKED])
def test_a_body_that_is_too_long_is_refused_early(announced):
    with listening(Echo(), ServingConfig(**LIMITS, max_body_bytes=1000)) as port:
        received = ask(port, post("/predict", announced, body=b"7d0\r\n" + b"a" * 2000))
    assert statuses(received) == [413]
    assert "1000 bytes" in error_of(received)


def test_head_is_answered_without_a_body_and_http_1_0_closes(port):
    received = ask(port, b"HEAD /health HTTP/1.0\r\n\r\n")
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert received.endswith(b"\r\n\r\n")


def test_the_path_is_decoded_without_the_query(port):
    for target in (b"/a%20b?c=d", b"http://here/a%20b?c", b"/a%20b#c"):
        received = ask(port, b"GET " + target + b" HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert b'"path": "/a b"' in received, target


def test_the_request_of_a_disconnected_client_is_cancelled():
    echo = Echo()
    with listening(echo, ServingConfig(**LIMITS)) as port:
        with connected(port, post("/slow")):
            time.sleep(0.2)
        time.sleep(0.3)
        assert echo.cancelled == 1


def test_a_stopping_listener_answers_requests_in_progress():
    with contextlib.ExitStack() as stack:
        with listening(Echo(), ServingConfig(**LIMITS)) as port:
            client = stack.enter_context(connected(port, post("/slow")))
            idle = stack.enter_context(connected(port, GOOD))
            time.sleep(0.2)
        assert statuses(rest(client)) == [200]
        assert statuses(rest(idle)) == [200]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_an_upgrade_is_answered_as_plain_http_and_refused_with_a_body(port, protocol):
    upgrade = (b"upgrade: " + protocol, b"connection: upgrade")
    received = ask(port, post("/predict", *upgrade))
    assert statuses(received) == [200]
    received = ask(port, post("/predict", *upgrade, b"content-length: 3", body=b"abc"))
    assert statuses(received) == [400]
    assert "remove the header Upgrade" in error_of(received)


def test_a_half_closed_connection_is_released(port):
    before = open_files()
    for request in (b"", b"POST /pre", GOOD, post("/slow"), post("/predict", b"content-length: 9")):
        with connected(port, request) as client:
            client.shutdown(socket.SHUT_WR)
            assert statuses(rest(client)) in ([], [200])
    assert_back_to(before, port)


def test_a_client_that_does_not_read_its_answers_is_disconnected(port):
    before = open_files()
    with connected(port, post("/big") * 3) as client:
        time.sleep(1)
        assert open_files() <= before + 1, "the server should have closed its end, and only the test's is open"
        assert len(rest(client)) < 8_000_000


def test_beyond_max_connections_only_health_checks_are_answered():
    health = b"GET /health HTTP/1.1\r\nhost: here\r\n\r\n"
    patient = ServingConfig(max_connections=4, keep_alive_timeout_s=60)
    with listening(Echo(), patient) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(connected(port, GOOD))
            assert statuses(client.recv(1000)) == [200]
        received = ask(port, GOOD)
        assert statuses(received) == [503]
        assert b"retry-after: 1" in received
        assert "4 connections" in error_of(received)
        assert statuses(ask(port, health)) == [200]
        with contextlib.ExitStack() as surplus:
            for _ in range(16):
                surplus.enter_context(connected(port))
            time.sleep(0.2)
            assert statuses(ask(port, health)) in ([503], [])
        client.close()
        time.sleep(0.2)
        assert statuses(ask(port, post("/predict", CLOSE))) == [200]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_back_to(before, port):
    """A valid request is answered, and soon no more files are open than before."""
    assert statuses(ask(port, post("/predict", CLOSE))) == [200]
    for _ in range(100):
        if open_files() <= before:
            return
        time.sleep(0.05)
    assert open_files() <= before


TOKENS = [
    b"GET",
    b"POST",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b" ",
    b"  ",
    b"/",
    b"/predict",
    b"*",
    b"http://[",
    b"%zz",
    b"\xff\xfe",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/9.9",
    b"HTTP/",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b":",
    b"host: a",
    b"content-length: ",
    b"transfer-encoding: chunked",
    b"expect: 100-continue",
    b"connection: upgrade\r\nupgrade: websocket",
    b"-1",
    b"18446744073709551616",
    b"CONNECT a:1",
    b"\x16\x03\x01\x02\x00\x01",
    b"a" * 5000,
]


def malformed(generator):
    """Bytes that are almost never a valid request."""
    kind = generator.random()
    if kind < 0.3:
        return generator.randbytes(generator.randrange(1, 200))
    if kind < 0.7:
        return b"".join(generator.choices(TOKENS, k=generator.randrange(1, 12)))
    damaged = bytearray(GOOD)
    for _ in range(generator.randrange(1, 6)):
        damaged[generator.randrange(len(damaged))] = generator.randrange(256)
    return bytes(damaged)


@pytest.mark.parametrize("requests", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests_get_a_4xx_or_a_closed_connection(port, requests):
    generator = random.Random(requests)
    before = open_files()
    for number in range(requests):
        sent = malformed(generator)
        with connected(port) as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
            received = rest(client)
        assert all(status in (100, 200) or 400 <= status < 500 for status in statuses(received)), (
            number,
            sent,
            received,
        )
        assert received.startswith(b"HTTP/1.1 ") or not received, (number, sent, received)
    assert_back_to(before, port)


def with_body(body, *headers):
    return post("/predict", b"content-length: %d" % len(body), *headers, body=body)


def test_the_segmentation_of_the_bytes_makes_no_difference(port):
    """Requests in one piece, in many, several at once, with an error between them."""
    pieces = [
        [with_body(b"abc")],
        [with_body(b"xyz")[:-1], b"z"],
        [with_body(b"abc") + with_body(b"def")],
        [bytes([byte]) for byte in with_body(b"ghi")],
        [b"\r\n" + with_body(b"jkl")],
        [post("/closed", b"content-length: 3", body=b"abc")],
        [post("/predict", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n")],
        [with_body(b"", CLOSE)],
    ]
    for _ in range(2):
        with connected(port) as client:
            for each in pieces:
                for piece in each:
                    client.sendall(piece)
                    time.sleep(0.002)
            received = rest(client)
        assert statuses(received) == [200] * 6 + [403] + [200] * 2
        bodies = [body.decode() for body in re.findall(rb'"body": "(\w*)"', received)]
        assert bodies == ["abc", "xyz", "abc", "def", "ghi", "jkl", "abc", ""]


def test_a_removed_key_is_refused_on_an_open_connection():
    echo = Echo()
    with listening(echo, ServingConfig()) as port, connected(port) as client:
        for status in (200, 200, 403):
            if status == 403:
                echo.admit = refuse_everybody
            client.sendall(with_body(b"abc"))
            assert statuses(client.recv(1 << 16)) == [status]


def refuse_everybody(request):
    raise Forbidden("closed")


HEADS = {
    "answered": (b"HEAD /health HTTP/1.1\r\n\r\n", 200),
    "refused": (b"HEAD /closed HTTP/1.1\r\n\r\n", 403),
    "refused with a body": (b"HEAD /closed HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 403),
    "no room": (b"HEAD / HTTP/1.1\r\ncontent-length: 3000\r\n\r\n" + b"a" * 3000, 503),
    "body too long": (b"HEAD / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1770\r\n" + b"a" * 6000, 413),
    "header too long": (b"HEAD / HTTP/1.1\r\nx: " + b"a" * 5000, 431),
    "header broken": (b"HEAD / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
    "target broken": (b"HEAD http://[ HTTP/1.1\r\n\r\n", 400),
    "header late": (b"HEAD / HTTP/1.1\r\nx: a", 408),
    "body late": (b"HEAD / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab", 408),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_answer_to_head_has_no_body_and_the_next_answer_follows_it(name):
    sent, status = HEADS[name]
    serving = ServingConfig(**LIMITS, max_body_bytes=4000)
    with listening(Echo(), serving, bodies=PendingBodies(2000)) as port:
        received = ask(port, post("/before") + sent + (b"" if status == 408 else post("/after", CLOSE)))
    head, _, others = received.partition(b'"/before", "body": ""}')[2].partition(b"\r\n\r\n")
    assert statuses(head) == [status]
    assert b"content-length: 0" not in head
    assert others == b"" if b"connection: close" in head else others.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"connection: close" in head) == (status not in (200, 403, 503))


@pytest.mark.parametrize("announced", [b"content-length: 5000000", CHUNKED])
def test_a_client_that_sends_the_whole_body_first_can_read_the_error(announced):
    """Even a client that sends for a long time; closing early would reset the connection and lose the answer."""
    with listening(Echo(), ServingConfig(**LIMITS, max_body_bytes=1000)) as port:
        for _ in range(20):
            with connected(port) as client:
                client.sendall(post("/predict", announced) + b"4C4B40\r\n")
                for _ in range(50):
                    client.sendall(b"a" * 100_000)
                assert statuses(rest(client)) == [413]


def test_a_client_that_never_stops_sending_is_disconnected():
    with listening(Echo(), ServingConfig(**LIMITS, max_body_bytes=1000)) as port:
        start = time.monotonic()
        begun = post("/predict", CHUNKED, body=b"fffffff\r\n")
        with connected(port, begun) as client, pytest.raises(OSError, match=r"reset|pipe"):
            keep_sending(client, 10)
        assert time.monotonic() - start < 6


def keep_sending(client, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(b"a" * 10_000)
        time.sleep(0.001)


def test_the_bytes_of_all_bodies_are_bounded_together():
    bodies = PendingBodies(1000)
    unfinished = post("/predict", b"content-length: 900", body=b"a" * 600)
    serving = ServingConfig(body_timeout_s=20)
    with listening(Echo(), serving, bodies=bodies) as port, connected(port, unfinished) as first:
        time.sleep(0.1)
        assert bodies.held_bytes == 600
        received = ask(port, unfinished, b"b" * 300, with_body(b"abc", CLOSE))
        assert statuses(received) == [503, 200], "the connection stays open, and small bodies are accepted"
        assert b"retry-after: 1" in received
        assert b"1000 bytes" in received
        first.sendall(b"a" * 300)
        assert statuses(first.recv(1 << 16)) == [200]
        assert bodies.held_bytes == 0


@pytest.mark.parametrize(
    "part",
    [
        post("/predict", b"content-length: 900", body=b"a" * 600),
        post("/predict", CHUNKED, body=b"5\r\nabcde\r\nzz\r\n"),
        post("/slow", b"content-length: 3", body=b"abc"),
        post("/slow", b"content-length: 3", body=b"abc") + with_body(b"abc") * 3,
        post("/slow", CLOSE, b"content-length: 3", body=b"abc") + with_body(b"abc") * 3,
        post("/closed", b"content-length: 900", body=b"a" * 600),
        post("/predict", b"content-length: 5000", body=b"a" * 600),
    ],
    ids=range(7),
)
@pytest.mark.parametrize("hangs_up", [True, False])
def test_closed_connections_hold_no_bytes(part, hangs_up):
    bodies = PendingBodies(1_000_000)
    with listening(Echo(), ServingConfig(**LIMITS, max_body_bytes=4000), bodies=bodies) as port:
        with connected(port, part) as client:
            if hangs_up:
                time.sleep(0.1)
            else:
                rest(client)
        # A client that sent ahead is not read from, nor missed, before its first answer is there.
        deadline = time.monotonic() + 3
        while bodies.held_bytes and time.monotonic() < deadline:
            time.sleep(0.02)
        assert bodies.held_bytes == 0
