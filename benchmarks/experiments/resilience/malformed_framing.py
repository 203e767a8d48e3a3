"""Malformed and ambiguous ends of requests: lengths, encodings, chunks, bodies of HEAD, other protocols, noise."""

import random

from cascade.benchmarks.experiments.resilience.malformed_bytes import CRLF, SMUGGLED, any_case, post
from cascade.benchmarks.experiments.resilience.malformed_case import BROKEN, Case, Maker, Site

__all__ = ["KINDS"]


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
    lines = [any_case(dice, name) + b": " + value for name, value in fields]
    return Case("two lengths", post(*lines, body=b"0\r\n\r\n" + SMUGGLED), BROKEN)


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
    return Case("strange length", post(b"Content-Length: " + value, body=SMUGGLED), BROKEN)


def strange_encoding(dice: random.Random, _: Site) -> Case:
    """A Transfer-Encoding that is not just ``chunked``."""
    value = dice.choice(
        [b"identity", b"xchunked", b"chunked, identity", b"chunkedx", b"\x0bchunked", b"gzip", b'"chunked"', b"chunk"]
    )
    line = dice.choice(
        [b"Transfer-Encoding: " + value, b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked"]
    )
    return Case("strange encoding", post(line, body=b"0\r\n\r\n" + SMUGGLED), BROKEN)


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
    return Case("broken chunks", post(b"Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n" + SMUGGLED), BROKEN)


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
    sent = post(b"Transfer-Encoding: chunked", body=body + trailer + CRLF)
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
        (post(b"Content-Length: %d" % len(site.body), body=site.body), 200, False),
        (post(b"Content-Length: 3", body=b"abc"), 400, False),
        (post(b"Content-Length: 0"), 400, False),
        (CRLF + post(b"Content-Length: 3", b"Content-Type: text/x", body=b"abc"), 415, False),
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


def expects(dice: random.Random, site: Site) -> Case:
    """A body that is announced with ``Expect`` and sent at once."""
    length = dice.choice([len(site.body), site.max_body_bytes + 1])
    sent = post(b"Expect: 100-continue", b"Content-Length: %d" % length, body=site.body)
    if length == len(site.body):
        return Case("Expect", sent, (frozenset({200}),), closes=False, may_close=False)
    return Case("Expect", sent, (frozenset({413}),))


def upgrades(dice: random.Random, _: Site) -> Case:
    """A request to change the protocol: it is answered in HTTP/1.1, or refused."""
    protocol = dice.choice([b"websocket", b"h2c", b"TLS/1.0"])
    length = dice.choice([b"", b"Content-Length: 3\r\n"])
    sent = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + protocol + CRLF + length + CRLF
    return Case("Upgrade", sent + (b"abc" if length else b"") + SMUGGLED, (frozenset({400} if length else {200}),))


def mutated(dice: random.Random, _: Site) -> Case:
    """A good request with bytes changed, lost or doubled: answered as the request that it becomes, or refused."""
    content = bytearray(post(b"Content-Length: 12", body=b'{"rows": []}'))
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
    two_lengths,
    strange_length,
    strange_encoding,
    broken_chunks,
    trailers,
    pipelined,
    head,
    broken_head,
    expects,
    upgrades,
    mutated,
    noise,
)
