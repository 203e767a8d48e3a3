"""Malformed, ambiguous and unusual requests, each with the statuses that are right for it."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import orjson

CRLF = b"\r\n"
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
"""Hidden in bodies and behind broken requests; its answer is unlike all others."""
SMUGGLED_MARK = b'"openapi"'


@dataclass(frozen=True)
class Site:
    """The cascade under test.

    Attributes:
        name: of the cascade.
        shape: of a row.
        max_body_bytes: of a request.
        max_header_bytes: of a request.
    """

    name: str
    shape: tuple[int, ...]
    max_body_bytes: int
    max_header_bytes: int

    @property
    def body(self) -> bytes:
        """One good row as JSON."""
        row: object = 0
        for size in reversed(self.shape):
            row = [row] * size
        return orjson.dumps({"rows": [row]})


@dataclass(frozen=True)
class Case:
    """Bytes to send on a connection, and the answers that are right.

    Attributes:
        kind: of the case.
        sent: one request or several, or bytes that resemble them.
        statuses: the statuses that are right for each answer, in their order.
        heads: places of the answers that have no body.
        closes: whether the connection must be closed afterwards; else it must go on.
        may_close: whether it may be closed.
        most_answers: more answers than ``statuses`` may come, up to so many, each with one of the last statuses.
    """

    kind: str
    sent: bytes
    statuses: tuple[frozenset[int], ...]
    heads: frozenset[int] = frozenset()
    closes: bool = True
    may_close: bool = True
    most_answers: int = 0


Maker = Callable[[random.Random, Site], Case]

BROKEN = (frozenset({400}),)


def _post(*headers: bytes, body: bytes = b"", target: bytes = b"/predict") -> bytes:
    return CRLF.join([b"POST " + target + b" HTTP/1.1", b"Host: a", *headers, b"", body])


def _case_of(dice: random.Random, text: bytes) -> bytes:
    return bytes(dice.choice((byte, ord(chr(byte).swapcase()))) for byte in text)


def two_lengths(dice: random.Random, _: Site) -> Case:
    """Content-Length together with Transfer-Encoding, or two of them: proxies disagree on which one counts."""
    length, chunked = b"%d" % dice.randrange(0, 50), b"chunked"
    fields = dice.choice(
        [
            [(b"content-length", length), (b"transfer-encoding", chunked)],
            [(b"transfer-encoding", chunked), (b"content-length", length)],
            [(b"content-length", length), (b"content-length", length)],
            [(b"content-length", length), (b"content-length", b"%d" % dice.randrange(50, 90))],
            [(b"content-length", length + b", " + length)],
        ]
    )
    lines = [_case_of(dice, name) + b": " + value for name, value in fields]
    return Case("two lengths", _post(*lines, body=b"0\r\n\r\n" + SMUGGLED), BROKEN)


def two_hosts(dice: random.Random, _: Site) -> Case:
    """Two of the header that proxies choose a server by."""
    lines = [b"Host: a", _case_of(dice, b"host") + b": " + dice.choice([b"a", b"b"])]
    return Case("two hosts", CRLF.join([b"GET /health HTTP/1.1", *lines, b"", b""]) + SMUGGLED, BROKEN)


def strange_length(dice: random.Random, _: Site) -> Case:
    """A Content-Length that is no plain number."""
    value = dice.choice(
        [
            b"-1",
            b"+5",
            b"0x5",
            b"5_0",
            b"1e1",
            b"5.0",
            b"",
            b"a",
            b"5 5",
            b"\xb2",
            b"18446744073709551616",
            b"9" * 40,
            b"-%d" % dice.randrange(1, 1000),
            b"5;5",
            b"'5'",
            b"5\x0b",
        ]
    )
    return Case("strange length", _post(b"Content-Length: " + value, body=SMUGGLED), BROKEN)


def strange_encoding(dice: random.Random, _: Site) -> Case:
    """A Transfer-Encoding that is not just ``chunked``."""
    value = dice.choice(
        [b"identity", b"xchunked", b"chunked, identity", b"chunkedx", b"\x0bchunked", b"gzip", b'"chunked"', b"chunk"]
    )
    line = dice.choice(
        [b"Transfer-Encoding: " + value, b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked"]
    )
    return Case("strange encoding", _post(line, body=b"0\r\n\r\n" + SMUGGLED), BROKEN)


def broken_chunks(dice: random.Random, _: Site) -> Case:
    """Chunks whose sizes or ends are wrong."""
    chunks = dice.choice(
        [
            b"zz\r\nabc\r\n",
            b"-1\r\n",
            b"+3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3\nabc\n",
            b"3\r\nabcd\r\n",
            b" 3\r\nabc\r\n",
            b"fffffffffffffffff\r\nabc\r\n",
            b"3\r\nabc",
            b"\r\n",
            b"3_0\r\n",
            b"3\rabc\r\n",
            b"3\r\nab\r\n0\r\n\r\n",
        ]
    )
    return Case("broken chunks", _post(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n" + SMUGGLED), BROKEN)


def trailers(dice: random.Random, site: Site) -> Case:
    """Fields after the chunks: good ones are ignored, broken ones make a broken request."""
    body = b"%x\r\n%s\r\n0\r\n" % (len(site.body), site.body)
    good = [b"", b"x: y\r\n", b"authorization: Bearer x\r\n", b"a: b\r\n" * 20]
    bad = [
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"x y\r\n",
        b"x: \0\r\n",
        b" x: y\r\n",
        b": y\r\n",
        b"x : y\r\n",
    ]
    trailer, is_good = dice.choice([(each, True) for each in good] + [(each, False) for each in bad])
    sent = _post(b"Transfer-Encoding: chunked", body=body + trailer + CRLF)
    if is_good:
        return Case("trailers", sent, (frozenset({200}),), closes=False, may_close=False)
    return Case("broken trailers", sent + SMUGGLED, BROKEN)


def pipelined(dice: random.Random, site: Site) -> Case:
    """Good and refused requests sent at once: an answer each, in their order."""
    many = [
        (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200, False),
        (b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n", 200, True),
        (b"HEAD /predict HTTP/1.1\r\nHost: a\r\n\r\n", 405, True),
        (b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 404, True),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, False),
        (b"DELETE /predict HTTP/1.1\r\nHost: a\r\n\r\n", 405, False),
        (_post(b"Content-Length: %d" % len(site.body), body=site.body), 200, False),
        (_post(b"Content-Length: 3", body=b"abc"), 400, False),
        (_post(b"Content-Length: 0"), 400, False),
        (CRLF + _post(b"Content-Length: 3", b"Content-Type: text/x", body=b"abc"), 415, False),
    ]
    chosen = dice.choices(many, k=dice.randrange(1, 20))
    heads = frozenset(place for place, (_, _, head) in enumerate(chosen) if head)
    statuses = tuple(frozenset({status}) for _, status, _ in chosen)
    sent = b"".join(request for request, _, _ in chosen)
    return Case("pipelined", sent, statuses, heads, closes=False, may_close=False)


def head(dice: random.Random, _: Site) -> Case:
    """HEAD where all goes well and where nothing does: never a body."""
    target, status = dice.choice(
        [(b"/health", 200), (b"/policy", 200), (b"/dashboard", 200), (b"/v2", 200), (b"/predict", 405), (b"/no", 404)]
    )
    sent = b"HEAD " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    return Case("HEAD", sent, (frozenset({status}),), frozenset({0}), closes=False, may_close=False)


def broken_head(dice: random.Random, site: Site) -> Case:
    """HEAD that is refused by the connection itself."""
    line, status = dice.choice(
        [
            (b"Content-Length: -1", 400),
            (b"x: " + b"a" * (site.max_header_bytes + 10), 431),
            (b"Content-Length: %d" % (site.max_body_bytes + 1), 413),
            (b"x: a\0b", 400),
        ]
    )
    sent = b"HEAD /health HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
    return Case("broken HEAD", sent, (frozenset({status}),), frozenset({0}))


def targets(dice: random.Random, _: Site) -> Case:
    """Targets in all forms that HTTP has, and in some that it has not."""
    target, statuses = dice.choice(
        [
            (b"http://other.example/health", {200}),
            (b"HTTP://a:80/health?x=1", {200}),
            (b"/health?a=b&c", {200}),
            (b"/he%61lth", {200}),
            (b"//health", {404}),
            (b"/%00", {404}),
            (b"/health%00", {404}),
            (b"/%zz", {404}),
            (b"/" + b"a" * 1000, {404}),
            (b"/../../etc/passwd", {404}),
            (b"/v2/models/" + b"x" * 500, {404}),
            (b"/%ff%fe", {404}),
        ]
    )
    sent = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    return Case("targets", sent, (frozenset(statuses),), closes=False, may_close=False)


def strange_targets(dice: random.Random, _: Site) -> Case:
    """Targets that are no path."""
    line = dice.choice(
        [
            b"OPTIONS *",
            b"GET *",
            b"CONNECT a:80",
            b"GET http://[",
            b"GET a",
            b"GET ",
            b"GET / x",
            b"GET /\x00",
            b"GET /\x01",
            b"GET http://",
            b"GET ://a",
            b"GET /a\tb",
            b"GET \xff",
        ]
    )
    return Case("strange targets", line + b" HTTP/1.1\r\nHost: a\r\n\r\n", (frozenset({400, 404, 405}),), closes=False)


def strange_lines(dice: random.Random, _: Site) -> Case:
    """Line ends of one byte, continued lines, blanks and zeros where none belong."""
    sent = dice.choice(
        [
            b"GET /health HTTP/1.1\nHost: a\n\n",
            b"GET /health HTTP/1.1\rHost: a\r\r",
            b"GET /health HTTP/1.1\r\nHost: a\nx: y\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n",
            b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHo\0st: a\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\0\r\n\r\n",
            b"GET /health HTTP/1.1\r\n: a\r\n\r\n",
            b"GET /health HTTP/1.1\r\nx\r\n\r\n",
            b"GET /health HTTP/1.1\r\nx(y): a\r\n\r\n",
            b"GET /health HTTP/1.1\r\nx: a\rb\r\n\r\n",
            b"GET\0/health HTTP/1.1\r\n\r\n",
            b"\0\0\0\0",
        ]
    )
    return Case("strange lines", sent + SMUGGLED, BROKEN)


def versions(dice: random.Random, _: Site) -> Case:
    """Other versions of HTTP, and what is none."""
    version = dice.choice(
        [b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1", b"HTTP/1.10", b"HTTP", b"http/1.1", b"HTTQ/1.1", b"ICY"]
    )
    return Case("versions", b"GET /health " + version + b"\r\nHost: a\r\n\r\n" + SMUGGLED, BROKEN)


def old_version(dice: random.Random, _: Site) -> Case:
    """HTTP/1.0 is answered, and the connection closed."""
    line = dice.choice([b"", b"Connection: keep-alive\r\n", b"Content-Length: 0\r\n"])
    return Case("HTTP/1.0", b"GET /health HTTP/1.0\r\n" + line + CRLF + SMUGGLED, (frozenset({200}),))


def methods(dice: random.Random, _: Site) -> Case:
    """Methods that no route has, and that HTTP does not define."""
    method = dice.choice(
        [b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"PROPFIND", b"get", b"GE", b"GETT", b"\xff", b"P" * 50]
    )
    statuses = frozenset({400, 405})
    return Case("methods", method + b" /health HTTP/1.1\r\nHost: a\r\n\r\n", (statuses,), closes=False)


def oversized(dice: random.Random, site: Site) -> Case:
    """More of anything than there may be."""
    many, body = site.max_header_bytes, site.max_body_bytes
    sent, status = dice.choice(
        [
            (b"GET /" + b"a" * (many + 10) + b" HTTP/1.1\r\n\r\n", 431),
            (b"GET /health HTTP/1.1\r\nx: " + b"a" * (many + 10) + b"\r\n\r\n", 431),
            (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 101 + CRLF, 431),
            (_post(b"Content-Length: %d" % (body + 1), body=b"a" * (body + 1)), 413),
            (_post(b"Content-Length: %d" % 10**12, body=b"a" * 1000), 413),
            (_post(b"Transfer-Encoding: chunked", body=b"%x\r\n" % (2 * body) + b"a" * (body + 5000)), 413),
            (_post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n" * (body + 5)), 413),
            (_post(b"Transfer-Encoding: chunked", body=b"0\r\nx: " + b"a" * 200_000), 431),
        ]
    )
    return Case("oversized", sent, (frozenset({status}),))


def long_extension(dice: random.Random, _: Site) -> Case:
    """A chunk whose size is followed by very much; it ends in no chunk."""
    sent = _post(b"Transfer-Encoding: chunked", body=b"5;" + b"x" * dice.randrange(1000, 300_000))
    return Case("long extension", sent, (frozenset({400, 431}),))


def hostile_bodies(dice: random.Random, site: Site) -> Case:
    """Whole requests whose bodies are not what they claim: one error, and the connection goes on."""
    noise = dice.randbytes(dice.randrange(1, 400))
    header = b"\x93NUMPY\x01\x00"
    body, kind = dice.choice(
        [
            (noise, b"application/json"),
            (noise, b"application/x-npy"),
            (noise, b"text/plain"),
            (noise, b""),
            (header + noise, b"application/x-npy"),
            (header + b"\x40\x00{'descr': '<f8', 'shape': (1<<60,), 'fortran_order': False}", b"application/x-npy"),
            (
                header + b"\x36\x00{'descr': '|O', 'shape': (1,), 'fortran_order': 0}   \n" + b"\1" * 8,
                b"application/x-npy",
            ),
            (b"[" * 500 + b"]" * 500, b"application/json"),
            (b'{"rows": ' + b"[" * 1000 + b"}", b"application/json"),
            (b'{"rows": [' + b"[]," * 2000 + b"[]]}", b"application/json"),
            (b'{"rows": [[1e999]]}', b"application/json"),
            (b'{"rows": [NaN]}', b"application/json"),
            (b'{"rows": ["a", 1]}', b"application/json"),
            (b'{"rows": {}}', b"application/json"),
            (b'{"rows": []}', b"application/json"),
            (b"\xff\xfe{", b"application/json"),
        ]
    )
    target = dice.choice([b"/predict", b"/v2/models/" + site.name.encode() + b"/infer"])
    sent = _post(b"Content-Length: %d" % len(body), b"Content-Type: " + kind, body=body, target=target)
    statuses = frozenset({400, 413, 415})
    return Case("hostile bodies", sent, (statuses,), closes=False, may_close=False)


def hostile_fields(dice: random.Random, site: Site) -> Case:
    """Good bodies with fields that ask for nonsense."""
    line = dice.choice(
        [
            b"X-Timeout-Ms: -1",
            b"X-Timeout-Ms: nan",
            b"X-Timeout-Ms: ",
            b"X-Max-Stage: none",
            b"X-Max-Stage: \xff",
            b"Content-Encoding: gzip",
            b"Content-Type: application/octet-stream\r\nX-Dtype: O",
            b"Content-Type: application/octet-stream\r\nX-Shape: -1,9",
            b"Inference-Header-Content-Length: -1\r\nX-Shape: a",
            b"Content-Type: application/octet-stream\r\nX-Shape: 99999999999,99999999999,99999999999",
        ]
    )
    body = site.body + b" " if line.startswith(b"Inf") else site.body
    target = b"/v2/models/" + site.name.encode() + b"/infer" if line.startswith(b"Inf") else b"/predict"
    sent = _post(b"Content-Length: %d" % len(body), line, body=body, target=target)
    return Case("hostile fields", sent, (frozenset({400, 415}),), closes=False, may_close=False)


def expects(dice: random.Random, site: Site) -> Case:
    """A body that is announced with ``Expect`` and sent at once."""
    length = dice.choice([len(site.body), site.max_body_bytes + 1])
    sent = _post(b"Expect: 100-continue", b"Content-Length: %d" % length, body=site.body)
    if length == len(site.body):
        return Case("Expect", sent, (frozenset({200}),), closes=False, may_close=False)
    return Case("Expect", sent, (frozenset({413}),))


def upgrades(dice: random.Random, _: Site) -> Case:
    """Another protocol is asked for: the request is answered in HTTP/1.1, or refused."""
    protocol = dice.choice([b"websocket", b"h2c", b"TLS/1.0"])
    length = dice.choice([b"", b"Content-Length: 3\r\n"])
    sent = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + protocol + CRLF + length + CRLF
    return Case("Upgrade", sent + (b"abc" if length else b"") + SMUGGLED, (frozenset({400} if length else {200}),))


def mutated(dice: random.Random, _: Site) -> Case:
    """A good request with bytes changed, lost or doubled: answered as the request that it becomes, or refused."""
    content = bytearray(_post(b"Content-Length: 12", body=b'{"rows": []}'))
    for _change in range(dice.randrange(1, 5)):
        place = dice.randrange(len(content))
        change = dice.randrange(3)
        if change == 0:
            content[place] = dice.randrange(256)
        elif change == 1:
            del content[place]
        else:
            content.insert(place, content[place])
    # 408: a longer body than what comes.
    statuses = frozenset({400, 404, 405, 408, 413, 415, 431})
    return Case("mutated", bytes(content), (statuses,), closes=False, most_answers=3)


def noise(dice: random.Random, _: Site) -> Case:
    """Random bytes, one that is no letter first."""
    sent = bytes([dice.randrange(128, 256)]) + dice.randbytes(dice.randrange(1, 400))
    return Case("noise", sent, BROKEN)


KINDS: tuple[Maker, ...] = (
    *(
        two_lengths,
        two_hosts,
        strange_length,
        strange_encoding,
        broken_chunks,
        trailers,
        pipelined,
        head,
        broken_head,
        targets,
    ),
    *(
        strange_targets,
        strange_lines,
        versions,
        old_version,
        methods,
        oversized,
        long_extension,
        hostile_bodies,
        hostile_fields,
    ),
    *(expects, upgrades, mutated, noise),
)
"""Makers of all kinds of cases."""
