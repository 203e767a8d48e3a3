"""The target over HTTP against small servers that answer rightly, slowly, not at all, or with invalid bodies."""

import asyncio
import contextlib
import json
import socket
import sys

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from cascade.benchmarks.benchmark import Benchmark
from cascade.benchmarks.errors import RequestFailed, TargetError
from cascade.benchmarks.http_target import HttpTarget, request_body
from cascade.benchmarks.load import ClosedLoop
from cascade.benchmarks.target import Reply
from cascade.benchmarks.workload import Workload
from cascade.config import CascadeConfig
from cascade.errors import ConfigError
from cascade.serving.bodies.wire import decode_rows

STAGES = ("small", "big")
ROWS = np.arange(6).reshape(3, 2)


def columns(n):
    return {"answer": [1] * n, "stage": ["small"] + ["big"] * (n - 1), "cost": [2.5] * n, "policy_version": "abc"}


async def health(request):
    return web.json_response({"status": "ok"})


async def read_rows(request):
    shape = tuple(map(int, request.headers["X-Shape"].split(",")))
    return np.frombuffer(await request.read(), request.headers["X-Dtype"]).reshape(shape)


async def answer_rightly(request):
    return web.json_response(columns(len(await read_rows(request))))


def answering(body, status=200):
    async def answer(request):
        await request.read()
        return web.Response(body=body if isinstance(body, bytes) else json.dumps(body).encode(), status=status)

    return answer


@contextlib.asynccontextmanager
async def serving(predict, health=health):
    """Yields the address of a server that lives as long as the block."""
    app = web.Application()
    app.router.add_post("/predict", predict)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def ask(predict, rows=ROWS, timeout_s=10.0, **server):
    """One request to a server; returns the reply."""

    async def main():
        async with serving(predict, **server) as url:
            target = HttpTarget(url, STAGES, timeout_s=timeout_s)
            await target.open()
            try:
                return await target.send(rows)
            finally:
                await target.close()
                await target.close()  # twice is allowed

    return asyncio.run(main())


def test_a_reply_has_what_the_server_answered():
    reply = ask(answer_rightly)
    assert (reply.answer.tolist(), reply.stage.tolist(), reply.cost.tolist()) == ([1] * 3, [0, 1, 1], [2.5] * 3)
    assert reply.policy_version == "abc"


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float16", "bool"])
@given(shape=st.lists(st.integers(1, 3), max_size=3), n=st.integers(1, 4))
def test_a_server_reads_the_very_rows_that_were_sent(dtype, shape, n):
    config = CascadeConfig.model_validate(
        {
            "name": "x",
            "rows": {"shape": shape, "dtype": dtype},
            "stages": [{"name": "a", "backend": {"type": "custom", "object": "a:b"}}],
        }
    )
    rows = np.random.default_rng(n).integers(0, 2, (n, *shape)).astype(dtype)
    body, headers = request_body(rows)
    read = decode_rows({key.lower(): value for key, value in headers.items()}, body, config)
    assert read.dtype == rows.dtype
    np.testing.assert_array_equal(read, rows)


def test_texts_are_sent_as_json():
    body, headers = request_body(np.array(["a", 'ü "b"'], dtype=object))
    assert json.loads(body) == {"rows": ["a", 'ü "b"']}
    assert headers["Content-Type"] == "application/json"


def test_a_slow_answer_is_a_timeout():
    async def answer(request):
        await asyncio.sleep(5)

    with pytest.raises(RequestFailed, match=r"no answer within 0\.1 s") as failure:
        ask(answer, timeout_s=0.1)
    assert failure.value.status == "timeout"


@pytest.mark.parametrize(
    ("body", "message"),
    [({"error": "the queue is full"}, "the queue is full"), (b"<h1>busy</h1>", "<h1>busy</h1>"), (b"", "(nothing)")],
)
def test_another_status_is_a_failed_request_with_the_servers_words(body, message):
    with pytest.raises(RequestFailed) as failure:
        ask(answering(body, 503))
    assert (failure.value.status, failure.value.message) == ("503", message)


def test_a_lost_connection_is_a_failed_request():
    async def answer(request):
        await request.read()
        request.transport.close()
        return web.Response()

    with pytest.raises(RequestFailed) as failure:
        ask(answer)
    assert failure.value.status == "connection"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"{not json", "the server's answer is not JSON"),
        ([1, 2], "must answer with columns; got list"),
        ({"answer": [1, 1, 1]}, "lacks the columns stage, cost, policy_version"),
        (columns(3) | {"answer": [1, 1]}, "sent 3 rows but answered 2 of answer"),
        (columns(3) | {"stage": ["small"] * 4}, "sent 3 rows but answered 4 of stage"),
        (columns(3) | {"cost": []}, "sent 3 rows but answered 0 of cost"),
        (columns(3) | {"stage": ["small", "other", "big"]}, "answered at stage 'other', the config has"),
        (columns(3) | {"answer": ["a", "b", "c"]}, "must be whole numbers"),
        (columns(3) | {"answer": 1}, "answer must be a list; got int"),
        (columns(3) | {"cost": None}, "cost must be a list; got NoneType"),
        (columns(3) | {"cost": [1.0, None, 1.0]}, "cost must be numbers"),
        (columns(3) | {"answer": [[1], [1], [1]]}, "answer must be whole numbers"),
        (columns(3) | {"answer": [[1], [1, 2], 1]}, "answer must be numbers"),
        (columns(3) | {"answer": [1, 0.5, 1]}, "answer must be whole numbers"),
        (columns(3) | {"stage": [["small"], "big", "big"]}, "answered at stage \\['small'\\]"),
    ],
)
def test_nonsense_is_one_clear_error(answer, message):
    with pytest.raises(TargetError, match=message):
        ask(answering(answer))


def test_a_server_that_is_not_well_is_not_loaded():
    with pytest.raises(TargetError, match="/health answered 503: still starting"):
        ask(answer_rightly, health=answering({"error": "still starting"}, 503))


def test_a_server_whose_health_never_comes_is_not_loaded():
    async def never(request):
        await asyncio.sleep(5)

    with pytest.raises(TargetError, match=r"health does not answer within 0\.1 s"):
        ask(answer_rightly, timeout_s=0.1, health=never)


def open_and_close(url):
    async def main():
        target = HttpTarget(url, STAGES)
        try:
            await target.open()
        finally:
            await target.close()

    asyncio.run(main())


def test_a_refused_connection_is_one_clear_error():
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TargetError, match=rf"nothing answers at {url} \(.*refused.*\); start 'cascade serve"):
            open_and_close(url)


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999", "http://[", "127.0.0.1", "http:///x"])
def test_what_is_no_address_is_one_clear_error(url):
    with pytest.raises(TargetError, match="http"):
        open_and_close(url)


def test_the_extra_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match=r"idk-cascade\[bench\]"):
        open_and_close("http://127.0.0.1:1")


def test_a_target_that_is_not_open_says_so():
    with pytest.raises(TargetError, match="not open"):
        asyncio.run(HttpTarget("http://127.0.0.1:1", STAGES).send(ROWS))


def test_a_whole_benchmark_keeps_its_connections_and_counts_refusals():
    peers, requests = set(), []

    async def answer(request):
        peers.add(request.transport.get_extra_info("peername"))
        rows = await read_rows(request)
        requests.append(rows)
        if len(requests) % 10 == 0:
            return web.json_response({"error": "busy"}, status=503)
        await asyncio.sleep(0.002)
        return web.json_response(columns(len(rows)))

    async def main():
        workload = Workload.from_rows(np.arange(40).reshape(20, 2), np.ones(20, dtype=np.int64), 4)
        benchmark = Benchmark(ClosedLoop(3, 30, max_requests=25), workload, STAGES, repeats=2)
        async with serving(answer) as url:
            return await benchmark.run(HttpTarget(url, STAGES, connections=3))

    repeats = asyncio.run(main())
    assert len(requests) == 50
    assert len(peers) <= 3 + 1  # the health may have had one of its own
    assert sum(repeat["errors"]["503"] for repeat in repeats) == 5
    for repeat in repeats:
        assert repeat["requests"] + repeat["failed"] == 25
        assert (repeat["rows"], repeat["accuracy"]) == (4 * repeat["requests"], 1.0)
        assert repeat["stage_share"] == {"small": 0.25, "big": 0.75}
        assert repeat["policy_versions"] == ["abc"]


def test_a_target_that_cannot_be_opened_is_closed_and_not_loaded(function_target):
    class Closed(function_target):
        async def open(self):
            raise TargetError("closed")

    target = Closed(None)
    benchmark = Benchmark(ClosedLoop(1, 1), Workload.from_rows(ROWS, None, 2), STAGES, repeats=1)
    with pytest.raises(TargetError, match="closed"):
        asyncio.run(benchmark.run(target))
    assert target.sent == []


@given(st.permutations(["a", "b", "c"]), st.data())
def test_stage_names_become_their_places_in_the_config(stages, data):
    names = data.draw(st.lists(st.sampled_from(stages), min_size=1, max_size=5))
    n = len(names)
    reply = Reply.from_columns(columns(n) | {"stage": names}, stages, n)
    assert [stages[k] for k in reply.stage] == names
