"""Malformed and unusual requests on raw sockets, without Ray: the cases of the experiment, a few of each kind."""

import asyncio
import random

import pytest
import uvloop
from listener_thread import listening
from local_service import LocalService

from cascade.benchmarks.experiments.resilience import malformed_case, malformed_requests
from cascade.serving.auth.guard import Guard
from cascade.serving.http.http_app import HttpApp

LIMITS = {"max_body_bytes": 16_384, "max_header_bytes": 4096}


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def port(request, config):
    update = LIMITS | {"header_timeout_s": 1.0, "body_timeout_s": 1.0}
    config = config.model_copy(update={"serving": config.serving.model_copy(update=update)})
    with listening(HttpApp(LocalService(config), Guard()), config.serving, request.param) as port:
        yield port


@pytest.mark.parametrize("count", [660, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_malformed_case_gets_its_expected_answer_and_the_server_survives(port, count):
    found = asyncio.run(malformed_requests.run(port, malformed_case.Site("fake", (2,), **LIMITS), count, count))
    assert found["examples"] == []
    assert sum(found["sent"].values()) == count
    assert len(found["sent"]) >= len(malformed_requests.KINDS)


def answer(body, status=b"200 OK", close=b""):
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), close, body)


BEFORE = answer(b'{"live":true}')
AFTER = answer(b'{"status":"ok"}', close=b"connection: close\r\n")
REFUSED = answer(b'{"error":"no"}', b"400 Bad Request")
WRONG = {
    "nothing at all": b"",
    "no answer to the case": BEFORE,
    "the connection stays open": BEFORE + REFUSED + AFTER,
    "a good answer": BEFORE + answer(b"{}"),
    "a hidden request is answered": BEFORE + REFUSED + answer(b'{"openapi": 1}'),
    "internals are disclosed": BEFORE + answer(b'{"error":"Traceback 0x7f0011223344"}', b"400 Bad Request"),
    "no clear error": BEFORE + answer(b'{"detail":"no"}', b"400 Bad Request"),
    "no JSON": BEFORE + answer(b"<html>", b"400 Bad Request"),
    "out of step": BEFORE + REFUSED[:-3],
    "a server error": BEFORE + answer(b'{"error":"no"}', b"500 Internal Server Error"),
    "more than was asked for": BEFORE + REFUSED + REFUSED,
}


def judged(answer_bytes, heads=frozenset()):
    """The experiment's findings about a server that always sends the same bytes."""
    case = malformed_case.Case("broken", b"", (frozenset({400}),), heads)

    async def main():
        async def talk(reader, writer):
            await reader.readuntil(malformed_requests.AFTER)
            writer.write(answer_bytes)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await malformed_requests.violation(port, case, random.Random(0))

    return asyncio.run(main())


@pytest.mark.parametrize("name", WRONG)
def test_the_experiment_finds_wrong_answers(name):
    assert judged(WRONG[name]) is not None


def test_the_experiment_accepts_right_answers():
    assert judged(BEFORE + REFUSED) is None
    head = REFUSED[: -len(b'{"error":"no"}')]
    assert judged(BEFORE + head, frozenset({0})) is None
    assert judged(BEFORE + REFUSED, frozenset({0})) is not None, "an answer to HEAD has a body"
