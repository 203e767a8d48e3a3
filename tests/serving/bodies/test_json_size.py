"""Bodies with too many values are refused before they are parsed; no other body is."""

import asyncio
import contextlib
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_service import ConstantService, respond

from cascade.config import CascadeConfig, RowsConfig
from cascade.errors import CascadeError
from cascade.serving.auth.guard import Guard
from cascade.serving.bodies import json_size
from cascade.serving.bodies.decoding import LARGE_JSON_BYTES, LARGE_RAW_BYTES, decoded
from cascade.serving.bodies.json_size import check_json_size
from cascade.serving.errors import BodyTooLarge
from cascade.serving.http.http_app import HttpApp
from cascade.serving.request import Request

BODY_BYTES = 16 << 20


def with_rows(config, shape=(), dtype="float32", most=8):
    serving = config.serving.model_copy(update={"max_request_rows": most, "max_body_bytes": BODY_BYTES})
    return config.model_copy(update={"rows": RowsConfig(shape=shape, dtype=dtype), "serving": serving})


@contextlib.contextmanager
def strict():
    """Counts small bodies too, and allows few values besides the rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_size, "SMALL_BYTES", 0)
        patch.setattr(json_size, "SLACK", 2)
        yield


@pytest.fixture(scope="module")
def plain(config_path):
    return CascadeConfig.load(config_path)


SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)


@given(SHAPES, st.integers(1, 8), st.integers(0, 2))
def test_no_allowed_request_of_numbers_is_refused(plain, shape, n, indent):
    config = with_rows(plain, shape)
    body = json.dumps({"rows": np.full((n, *shape), -1.5e-3).tolist()}, indent=indent or None).encode()
    with strict():
        check_json_size(body, config)


@given(st.lists(st.text('[]{},"\\\n:äa'), min_size=1, max_size=8))
def test_no_allowed_request_of_texts_is_refused(plain, texts):
    config = with_rows(plain, dtype="text")
    with strict():
        for ascii_only in (False, True):
            check_json_size(json.dumps({"rows": texts}, ensure_ascii=ascii_only).encode(), config)


@given(st.sampled_from(["[]", "{}", "0", '""', '"\\""', '"\\\\"', "[[]]"]), st.sampled_from(["float32", "text"]))
def test_too_many_values_of_any_kind_are_refused(plain, value, dtype):
    config = with_rows(plain, dtype=dtype)
    body = b'{"rows": [' + b",".join([value.encode()] * 50) + b"]}"
    with strict(), pytest.raises(BodyTooLarge, match="8 rows"):
        check_json_size(body, config)


FLOODS = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"0,",
    "texts": b'"",',
    "escapes": b'"\\"",',
    "nested": b"[" * 500 + b"]" * 500 + b",",
    "deep": b"[",
}


@pytest.mark.parametrize("dtype", ["int64", "text"])
@pytest.mark.parametrize("path", ["/predict", "/v2/models/fake/infer"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_values_takes_less_than_a_second(plain, path, flood, dtype):
    """Parsing these bodies took four seconds or more."""
    config = with_rows(plain, () if dtype == "text" else (2,), dtype, most=1024)
    start = b'{"rows": [' if path == "/predict" else b'{"inputs": [{"name": "rows", "data": ['
    body = (start + FLOODS[flood] * (BODY_BYTES // len(FLOODS[flood])))[:BODY_BYTES]
    app = HttpApp(ConstantService(config), Guard())
    began = time.process_time()
    reply = asyncio.run(respond(app, Request("POST", path, {"content-type": "application/json"}, body)))
    assert time.process_time() - began < 1
    assert reply.status in (400, 413)


@pytest.mark.parametrize(
    ("kind", "size"), [("application/json", LARGE_JSON_BYTES), ("application/octet-stream", LARGE_RAW_BYTES)]
)
def test_other_requests_are_answered_while_a_large_body_is_decoded(config, kind, size):
    def slow(headers, body, config):
        time.sleep(0.3)
        return len(body)

    async def main():
        decoding = asyncio.ensure_future(decoded(slow, {"content-type": kind}, b"0" * size, config))
        ticks = 0
        while not decoding.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await decoding

    ticks, found = asyncio.run(main())
    assert (ticks > 10, found) == (True, size)


def test_an_error_of_a_large_body_is_the_same(config):
    def refuse(*_):
        raise BodyTooLarge("no")

    with pytest.raises(CascadeError, match="no"):
        asyncio.run(decoded(refuse, {}, b"0" * LARGE_JSON_BYTES, config))
