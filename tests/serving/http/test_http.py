"""The HTTP application without Ray: every kind of body and of error."""

import gzip
import io
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_service import POLICY, ConstantService, LocalService, ask

from cascade.backends.config import CustomConfig
from cascade.calibration import Policy
from cascade.serving.batching.batcher import Batcher, BatcherOptions
from cascade.serving.batching.steps import single_step
from cascade.serving.errors import Overloaded
from cascade.serving.http.routes import ROUTES


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


class WritesToItsRows:
    """A user's model that changes its rows in place."""

    def __init__(self, sure):
        self.sure = sure

    def predict(self, rows):
        rows += 1
        table = np.full((len(rows), 4), 0.1)
        table[np.arange(len(rows)), rows[:, 0] % 4] = 0.7
        return table if self.sure else np.full((len(rows), 4), 0.25)


def test_a_model_that_writes_to_its_rows_gets_writable_rows_from_every_body(config):
    stages = [
        stage.model_copy(
            update={
                "backend": CustomConfig(
                    type="custom", object=f"{__name__}:WritesToItsRows", arguments={"sure": stage.name == "big"}
                )
            }
        )
        for stage in config.stages
    ]
    service = LocalService(config.model_copy(update={"stages": tuple(stages)}))
    rows = np.array([[0, 5], [3, 5], [6, 5]])
    bodies = [
        rows_json(rows.tolist()),
        post(rows.tobytes(), content_type="application/octet-stream"),
        post(npy(rows), content_type="application/x-npy"),
    ]
    for response in ask(service, *bodies):
        assert response.status_code == 200, response.text
        assert response.json()["answer"] == [1, 0, 3]


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


# An .npy file whose header is an expression nested so deep that reading it needs a parser of its own size.
HOSTILE_NPY = b"\x93NUMPY\x01\x00" + (3000).to_bytes(2, "little") + b"-" * 2999 + b"1"
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
    "bytes do not fit": (
        post(b"12345", **RAW),
        400,
        "the body has 5 bytes, which is not a multiple of a row's 16 (shape (2,), int64)",
    ),
    "a missing value": (rows_json([[None, 1]]), 400, "a missing value"),
    "a shape of other size": (post(b"\0" * 16, x_shape="9,2", **RAW), 400, "16 bytes"),
    "shape of nonsense": (post(b"\0" * 16, x_shape="-1,2", **RAW), 400, "X-Shape"),
    "huge shape": (post(b"\0" * 16, x_shape="99999999999,99999999999", **RAW), 400, "bytes"),
    "unknown dtype": (post(b"\0" * 16, x_dtype="object", **RAW), 400, "X-Dtype"),
    "object array": (post(npy(np.array([[1, None]], dtype=object)), content_type="application/x-npy"), 400, "plain"),
    "truncated npy": (post(npy(np.zeros((4, 2)))[:-8], content_type="application/x-npy"), 400, ".npy"),
    "body too large": (post(b"\0" * 5000, **RAW), 413, "4096"),
    "too many rows": (rows_json([[1, 1]] * 33), 413, "32 rows"),
    "a text among numbers": (rows_json([[1, "x" * 50], [1, 2]]), 400, "text"),
    "deep nesting": (post(b'{"rows": ' + b"[" * 900 + b"]" * 900 + b"}"), 400, "rows"),
    "endless nesting": (post(b'{"rows": ' + b"[" * 2000), 400, "JSON"),
    "npy header of nonsense": (post(HOSTILE_NPY, content_type="application/x-npy"), 400, ".npy"),
    "compressed": (post(gzip.compress(b"\0" * 100_000), content_encoding="gzip", **RAW), 415, "encoding"),
    "unknown type": (post(b"x", content_type="text/html"), 415, "text/html"),
    "unknown route": ({"method": "GET", "url": "/nowhere"}, 404, "/nowhere"),
    "wrong method": ({"method": "GET", "url": "/predict"}, 405, "POST"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_request_gets_one_sentence_and_the_others_their_answers(service, name):
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
    (response,) = ask(ConstantService(config), post(body, **headers))
    assert response.status_code in (200, 400, 413, 415), response.text


def test_overload_has_a_retry_after(config):
    class Full(ConstantService):
        async def answer_rows(self, rows, overrides):
            raise Overloaded("full")

    (response,) = ask(Full(config), rows_json([[1, 2]]))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_an_error_names_the_supported_alternatives(config):
    method, encoding = ask(
        ConstantService(config), {"method": "PUT", "url": "/predict"}, post(b"x", content_encoding="br", **RAW)
    )
    assert method.headers["allow"] == "POST"
    assert encoding.headers["accept-encoding"] == "identity"


def test_the_identity_encoding_is_accepted(config):
    (response,) = ask(ConstantService(config), post(b"\0" * 16, content_encoding="Identity", **RAW))
    assert response.json()["answer"] == [0]


@pytest.mark.parametrize(("header", "timeout_s"), [({}, None), ({"x_timeout_ms": "250"}, 0.25)])
def test_a_request_may_have_its_own_timeout(config, header, timeout_s):
    asked = []

    class Noting(ConstantService):
        async def answer_rows(self, rows, overrides):
            asked.append(timeout_s)
            return await super().answer_rows(rows, overrides)

    ask(Noting(config), post(b"\0" * 16, **RAW, **header))
    assert asked == [timeout_s]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_must_be_greater_than_zero(config, text):
    (response,) = ask(ConstantService(config), post(b"\0" * 16, x_timeout_ms=text, **RAW))
    assert (response.status_code, "X-Timeout-Ms" in response.text) == (400, True)


@pytest.mark.parametrize(("most_s", "header"), [(0.05, {}), (30, {"x_timeout_ms": "50"})])
def test_a_late_answer_is_a_504(config, most_s, header):
    hasty = config.model_copy(update={"serving": config.serving.model_copy(update={"request_timeout_s": most_s})})
    service = LocalService(hasty)
    release = threading.Event()
    service.batcher = Batcher(single_step(lambda *_: release.wait(5)), None, BatcherOptions(8, 100))
    (response,) = ask(service, post(b"\0" * 16, **RAW, **header))
    release.set()
    assert response.status_code == 504
    assert "0.05 s" in response.json()["error"]


def test_an_unexpected_error_reveals_no_details(config):
    class Broken(ConstantService):
        async def answer_rows(self, rows, overrides):
            raise ZeroDivisionError("secret")

    (response,) = ask(Broken(config), rows_json([[1, 2]]))
    assert response.status_code == 500
    assert "secret" not in response.text


def test_health_and_policy(service):
    health, policy = ask(service, {"method": "GET", "url": "/health"}, {"method": "GET", "url": "/policy"})
    assert health.json() == {"status": "ok", "name": "fake"}
    assert Policy.from_json(policy.text) == POLICY


def get_paths():
    """All paths with GET."""
    return [
        route.path.replace("{name}", "fake").replace("{version}", POLICY.version)
        for route in ROUTES
        if route.method == "GET"
    ]


def test_head_is_answered_like_get_everywhere(service):
    for path in [*get_paths(), "/nowhere", "/v2/models/other"]:
        head, get = ask(service, {"method": "HEAD", "url": path}, {"method": "GET", "url": path})
        assert head.status_code == get.status_code, path
        assert head.headers["content-type"] == get.headers["content-type"], path


def test_allow_lists_head_beside_get(service):
    for path in get_paths():
        (response,) = ask(service, {"method": "DELETE", "url": path})
        assert response.status_code in (403, 405)
        if response.status_code == 405:
            assert {"GET", "HEAD"} <= set(response.headers["allow"].split(", "))
    (response,) = ask(service, {"method": "HEAD", "url": "/predict"})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
