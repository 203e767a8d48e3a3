"""Malformed and unusual request lines, fields and bodies."""

import random

from cascade.benchmarks.experiments.resilience.malformed_bytes import CRLF, SMUGGLED, any_case, post
from cascade.benchmarks.experiments.resilience.malformed_case import BROKEN, Case, Maker, Site

__all__ = ["KINDS"]


def two_hosts(dice: random.Random, _: Site) -> Case:
    """Two of the header that proxies choose a server by."""
    lines = [b"Host: a", any_case(dice, b"host") + b": " + dice.choice([b"a", b"b"])]
    return Case("two hosts", CRLF.join([b"GET /health HTTP/1.1", *lines, b"", b""]) + SMUGGLED, BROKEN)


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
            (post(b"Content-Length: %d" % (body + 1), body=b"a" * (body + 1)), 413),
            (post(b"Content-Length: %d" % 10**12, body=b"a" * 1000), 413),
            (post(b"Transfer-Encoding: chunked", body=b"%x\r\n" % (2 * body) + b"a" * (body + 5000)), 413),
            (post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n" * (body + 5)), 413),
            (post(b"Transfer-Encoding: chunked", body=b"0\r\nx: " + b"a" * 200_000), 431),
        ]
    )
    return Case("oversized", sent, (frozenset({status}),))


def long_extension(dice: random.Random, _: Site) -> Case:
    """A chunk whose size is followed by very much; it ends in no chunk."""
    sent = post(b"Transfer-Encoding: chunked", body=b"5;" + b"x" * dice.randrange(1000, 300_000))
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
    sent = post(b"Content-Length: %d" % len(body), b"Content-Type: " + kind, body=body, target=target)
    statuses = frozenset({400, 413, 415})
    return Case("hostile bodies", sent, (statuses,), closes=False, may_close=False)


def hostile_fields(dice: random.Random, site: Site) -> Case:
    """Good bodies with fields of invalid values."""
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
    sent = post(b"Content-Length: %d" % len(body), line, body=body, target=target)
    return Case("hostile fields", sent, (frozenset({400, 415}),), closes=False, may_close=False)


KINDS: tuple[Maker, ...] = (
    two_hosts,
    targets,
    strange_targets,
    strange_lines,
    versions,
    old_version,
    methods,
    oversized,
    long_extension,
    hostile_bodies,
    hostile_fields,
)
