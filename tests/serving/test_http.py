"""The ASGI application, without Ray: every body and every mistake."""

import asyncio
import io
import json
import threading

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.calibration import Policy
from cascade.cascade import load_stages
from cascade.engine import Segment
from cascade.serving.batcher import Batcher
from cascade.serving.errors import Overloaded
from cascade.serving.http import HttpApp
from cascade.serving.wire import answer_columns

POLICY = Policy.from_thresholds(("small", "big"), np.array([0.8]))


class LocalService:
    """The gateway's logic in this process, all stages in one segment."""

    def __init__(self, config):
        self.config = config
        self.batcher = Batcher(Segment(load_stages(config.stages)).run, None, 8, 100)

    async def answer_rows(self, rows, timeout_s=None):
        most = self.config.serving.request_timeout_s
        answers = await self.batcher.answer(rows, POLICY, timeout_s=min(timeout_s or most, most))
        return answer_columns(answers, ("small", "big"), self.config.classes) | {"policy_version": POLICY.version}

    def describe_policy(self):
        return POLICY.to_dict() | {"version": POLICY.version}


def ask(service, *requests):
    """Sends requests at the same time; returns the responses in their order."""

    async def main():
        transport = httpx.ASGITransport(HttpApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.gather(*(client.request(**request) for request in requests))

    return asyncio.run(main())


def post(body, **headers):
    return {
        "method": "POST",
        "url": "/predict",
        "content": body,
        "headers": {key.replace("_", "-"): value for key, value in headers.items()},
    }


def rows_json(rows):
    return post(json.dumps({"rows": rows}), content_type="application/json")


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def service(config):
    return LocalService(config)


def test_all_bodies_give_the_same_answer(service):
    rows = np.array([[0, 5], [3, 5], [6, 5]])
    raw = {"content_type": "application/octet-stream"}
    responses = ask(
        service,
        rows_json(rows.tolist()),
        post(rows.tobytes(), **raw),
        post(rows.astype("uint8").tobytes(), x_dtype="uint8", x_shape="3,2", **raw),
        post(npy(rows), content_type="application/x-npy"),
    )
    for response in responses:
        assert response.status_code == 200, response.text
        assert response.json() == responses[0].json()
    answer = responses[0].json()
    assert answer["answer"] == [0, 3, 2]
    assert answer["label"] == ["zero", "three", "two"]
    assert answer["stage"] == ["small", "big", "small"]
    assert answer["confidence"] == pytest.approx([0.9, 0.97, 0.9])
    assert answer["policy_version"] == POLICY.version


RAW = {"content_type": "application/octet-stream"}
BAD = {
    "empty body": (post(b""), 400, "empty"),
    "no rows": (rows_json([]), 400, "at least one row"),
    "wrong shape": (rows_json([[1, 2, 3]]), 400, "shape (n, 2)"),
    "ragged": (rows_json([[1, 2], [3]]), 400, "shape"),
    "not numbers": (rows_json([["a", "b"]]), 400, "numbers"),
    "fractions for integers": (rows_json([[0.5, 1.0]]), 400, "int64"),
    "not JSON": (post(b"{rows", content_type="application/json"), 400, "JSON"),
    "another key": (post(b'{"row": [[1, 2]]}', content_type="application/json"), 400, '"rows"'),
    "NaN": (post(np.array([[np.nan, 1.0]]).tobytes(), x_dtype="float64", x_shape="1,2", **RAW), 400, "int64"),
    "bytes do not fit": (post(b"12345", **RAW), 400, "5 bytes"),
    "shape lies": (post(b"\0" * 16, x_shape="9,2", **RAW), 400, "16 bytes"),
    "shape of nonsense": (post(b"\0" * 16, x_shape="-1,2", **RAW), 400, "X-Shape"),
    "huge shape": (post(b"\0" * 16, x_shape="99999999999,99999999999", **RAW), 400, "bytes"),
    "unknown dtype": (post(b"\0" * 16, x_dtype="object", **RAW), 400, "X-Dtype"),
    "object array": (post(npy(np.array([[1, None]], dtype=object)), content_type="application/x-npy"), 400, "plain"),
    "truncated npy": (post(npy(np.zeros((4, 2)))[:-8], content_type="application/x-npy"), 400, ".npy"),
    "body too large": (post(b"\0" * 5000, **RAW), 413, "4096"),
    "too many rows": (rows_json([[1, 1]] * 33), 413, "32 rows"),
    "unknown type": (post(b"x", content_type="text/html"), 415, "text/html"),
    "unknown route": ({"method": "GET", "url": "/nowhere"}, 404, "/nowhere"),
    "wrong method": ({"method": "GET", "url": "/predict"}, 405, "POST"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_one_sentence_and_the_others_their_answers(service, name):
    request, status, words = BAD[name]
    good, bad, also_good = ask(service, rows_json([[1, 0]]), request, rows_json([[2, 0]]))
    assert bad.status_code == status
    assert set(bad.json()) == {"error"}
    assert words in bad.json()["error"]
    assert "\n" not in bad.json()["error"]
    assert (good.json()["answer"], also_good.json()["answer"]) == ([1], [2])


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "application/x-npy", "application/octet-stream", "nonsense", ""]),
    st.none() | st.text(alphabet="0123456789,-. e", max_size=12),
    st.none() | st.sampled_from(["uint8", "int64", "O", "V8", "M8[s]", "float16", "x"]),
)
def test_no_body_is_an_internal_error(config, body, kind, shape, dtype):
    headers = {"content_type": kind}
    headers |= {} if shape is None else {"x_shape": shape}
    headers |= {} if dtype is None else {"x_dtype": dtype}
    (response,) = ask(SumService(config), post(body, **headers))
    assert response.status_code in (200, 400, 413, 415), response.text


class SumService:
    """Takes whatever passed the checks."""

    def __init__(self, config):
        self.config = config

    async def answer_rows(self, rows, timeout_s=None):
        assert rows.dtype == np.int64
        assert rows.shape[1:] == (2,)
        return {"rows": len(rows)}


def test_overload_says_when_to_come_back(config):
    class Full(SumService):
        async def answer_rows(self, rows, timeout_s=None):
            raise Overloaded("full")

    (response,) = ask(Full(config), rows_json([[1, 2]]))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_a_late_answer_is_a_504(config):
    hasty = config.model_copy(update={"serving": config.serving.model_copy(update={"request_timeout_s": 0.05})})
    service = LocalService(hasty)
    release = threading.Event()
    service.batcher = Batcher(lambda *_: release.wait(5), None, 8, 100)
    (response,) = ask(service, rows_json([[1, 2]]))
    release.set()
    assert response.status_code == 504
    assert "0.05 s" in response.json()["error"]


def test_an_unexpected_error_tells_nothing_of_the_inside(config):
    class Broken(SumService):
        async def answer_rows(self, rows, timeout_s=None):
            raise ZeroDivisionError("secret")

    (response,) = ask(Broken(config), rows_json([[1, 2]]))
    assert response.status_code == 500
    assert "secret" not in response.text


def test_health_and_policy(service):
    health, policy = ask(service, {"method": "GET", "url": "/health"}, {"method": "GET", "url": "/policy"})
    assert health.json() == {"status": "ok", "name": "fake"}
    assert Policy.from_dict({k: v for k, v in policy.json().items() if k != "version"}) == POLICY
