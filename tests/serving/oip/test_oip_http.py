"""The Open Inference Protocol over HTTP, without Ray: every form of a request, and every error."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_service import POLICY, ConstantService, LocalService, ask

from cascade.config import CascadeConfig

INFER = "/v2/models/fake/infer"
ROWS = [[0, 5], [3, 5], [6, 5]]
RAW_ROWS = np.array(ROWS, "<i8").tobytes()


@pytest.fixture
def service(config):
    return LocalService(config)


def get(path):
    return {"method": "GET", "url": path}


def tensor(**changes):
    wanted = {"name": "rows", "datatype": "INT64", "shape": [3, 2], "data": ROWS} | changes
    return {key: value for key, value in wanted.items() if value is not None}


def infer(content, raw=b"", path=INFER, **headers):
    """A request; with raw contents also the length of the JSON before them."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    if raw:
        headers = {"inference_header_content_length": str(len(body))} | headers
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return {"method": "POST", "url": path, "content": body + raw, "headers": named}


def raw_tensor(size=48, **changes):
    return tensor(data=None, parameters={"binary_data_size": size}, **changes)


def outputs(response):
    """The response's tensors as lists, from raw bytes or JSON."""
    length = int(response.headers.get("inference-header-content-length", len(response.content)))
    content, raw = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        found[output["name"]] = output["data"] if size is None else unpacked(output["datatype"], raw[:size])
        raw = raw[size or 0 :]
        assert output["shape"] == [len(found[output["name"]])]
    assert raw == b""
    return found


def unpacked(datatype, raw):
    if datatype != "BYTES":
        return np.frombuffer(raw, {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}[datatype]).tolist()
    texts = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return texts


REQUESTS = {
    "nested": infer({"inputs": [tensor()]}),
    "flat": infer({"inputs": [tensor(data=[0, 5, 3, 5, 6, 5])]}),
    "raw": infer({"inputs": [raw_tensor()]}, RAW_ROWS),
    "raw at an odd place": infer(json.dumps({"inputs": [raw_tensor()]}).encode() + b" ", RAW_ROWS),
    "raw answers": infer({"inputs": [tensor()], "parameters": {"binary_data_output": True}}),
    "one raw answer": infer({"inputs": [tensor()], "outputs": [
        {"name": "stage", "parameters": {"binary_data": True}}, {"name": "answer"}, {"name": "label"},
        {"name": "confidence"}, {"name": "cost"}, {"name": "degraded"}, {"name": "abstained"}]}),
    "this version": infer({"inputs": [tensor()]}, path=f"/v2/models/fake/versions/{POLICY.version}/infer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_every_form_of_a_request_gives_the_answers_of_predict(service, name):
    response, plain = ask(
        service, REQUESTS[name], {"method": "POST", "url": "/predict", "content": json.dumps({"rows": ROWS})}
    )
    assert response.status_code == 200, response.text
    found = outputs(response)
    assert found | {"policy_version": POLICY.version} == plain.json()
    assert found["label"] == ["zero", "three", "two"]


def test_only_requested_outputs_and_the_id_are_returned(service):
    content = {"id": "mine", "inputs": [tensor()], "outputs": [{"name": "label"}, {"name": "answer"}]}
    first, second = (response.json() for response in ask(service, infer(content), infer(content)))
    assert first == second
    assert [output["name"] for output in first["outputs"]] == ["label", "answer"]
    assert (first["id"], first["model_name"], first["model_version"]) == ("mine", "fake", POLICY.version)
    assert first["parameters"] == {"policy_version": POLICY.version}


def test_the_answer_of_one_row_is_in_the_parameters_too(service):
    (response,) = ask(service, infer({"inputs": [tensor(shape=[1, 2], data=[3, 0])]}))
    content = response.json()
    assert "id" not in content
    assert content["parameters"] == {
        "policy_version": POLICY.version,
        "stage": "big",
        "confidence": pytest.approx(0.97),
        "abstained": False,
    }


def test_metadata_describes_the_tensors_of_infer(service):
    server, live, ready, model, same, model_ready = ask(
        service,
        get("/v2"),
        get("/v2/health/live"),
        get("/v2/health/ready"),
        get("/v2/models/fake"),
        get(f"/v2/models/fake/versions/{POLICY.version}"),
        get("/v2/models/fake/ready"),
    )
    assert server.json()["extensions"] == ["binary_tensor_data"]
    assert (live.json(), ready.json()) == ({"live": True}, {"ready": True})
    assert model_ready.json() == {"name": "fake", "ready": True}
    assert same.json() == model.json()
    assert model.json()["inputs"] == [{"name": "rows", "datatype": "INT64", "shape": [-1, 2]}]
    (answer,) = ask(service, infer({"inputs": [tensor()]}))
    described = {output["name"]: output["datatype"] for output in answer.json()["outputs"]}
    assert described == {output["name"]: output["datatype"] for output in model.json()["outputs"]}


def test_the_timeout_is_in_microseconds(config):
    asked = []

    class Noting(ConstantService):
        async def answer_rows(self, rows, overrides):
            asked.append(overrides.timeout_s)
            return await super().answer_rows(rows, overrides)

    for timeout in (1500, 0):
        ask(Noting(config), infer({"inputs": [tensor()], "parameters": {"timeout": timeout}}))
    assert asked == [0.0015, None]


def with_rows(dtype, shape=()):
    return CascadeConfig(
        name="fake",
        rows={"dtype": dtype, "shape": shape},
        stages=({"name": "small", "backend": {"type": "custom", "object": "a:B"}},),
    )


class Keeping(ConstantService):
    """Stores the rows that it gets."""

    async def answer_rows(self, rows, overrides):
        self.rows = rows
        return {"answer": [0] * len(rows), "stage": ["small"] * len(rows), "confidence": [1.0] * len(rows),
                "cost": [1.0] * len(rows), "abstained": [False] * len(rows),
                "policy_version": POLICY.version}  # fmt: skip


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
                                   "float16", "float32", "float64"])  # fmt: skip
def test_every_datatype_arrives_unchanged_raw_and_as_json(dtype):
    service = Keeping(with_rows(dtype, (2,)))
    (metadata,) = ask(service, get("/v2/models/fake"))
    datatype = metadata.json()["inputs"][0]["datatype"]
    expected = np.array([[0, 1], [1, 1]], dtype) if dtype == "bool" else np.array([[0, 1], [100, 3]], dtype)
    for request in (
        infer({"inputs": [raw_tensor(expected.nbytes, datatype=datatype, shape=[2, 2])]}, expected.tobytes()),
        infer({"inputs": [tensor(data=expected.ravel().tolist(), datatype=datatype, shape=[2, 2])]}),
    ):
        (response,) = ask(service, request)
        assert response.status_code == 200, response.text
        assert service.rows.dtype == expected.dtype
        assert service.rows.flags.aligned
        np.testing.assert_array_equal(service.rows, expected)


def packed(*texts):
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def test_texts_travel_as_bytes():
    service = Keeping(with_rows("text"))
    raw = packed("", "zwölf", "a\nb")
    for request in (
        infer({"inputs": [raw_tensor(len(raw), datatype="BYTES", shape=[3])]}, raw),
        infer({"inputs": [tensor(data=["", "zwölf", "a\nb"], datatype="BYTES", shape=[3])]}),
    ):
        (response,) = ask(service, request)
        assert response.status_code == 200, response.text
        assert service.rows.tolist() == ["", "zwölf", "a\nb"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (packed("a"), "bytes are missing"),
        (packed("a", "b")[:-1], "bytes are missing"),
        (packed("a", "b") + b"c", "bytes follow them"),
        (packed("a", "b", "c"), "bytes follow them"),
        (packed("a", b"\xff"), "UTF-8"),
        ((1 << 31).to_bytes(4, "little") + b"abc", "bytes are missing"),
    ],
)
def test_texts_with_wrong_lengths_are_refused(raw, words):
    request = infer({"inputs": [raw_tensor(len(raw), datatype="BYTES", shape=[2])]}, raw)
    (response,) = ask(Keeping(with_rows("text")), request)
    assert (response.status_code, words in response.json()["error"]) == (400, True)


DEEP = b'{"inputs": [{"name": "rows", "datatype": "INT64", "shape": [3, 2], "data": %s}]}'
BAD = {
    "empty": (infer(b""), 400, "JSON"),
    "not an object": (infer([]), 400, "object"),
    "no inputs": (infer({}), 400, "one input"),
    "two inputs of one name": (infer({"inputs": [tensor(), tensor()]}), 400, "one input"),
    "inputs of nonsense": (infer({"inputs": [1]}), 400, "'inputs'"),
    "another name": (infer({"inputs": [tensor(name="row")]}), 400, "'row'"),
    "a name of two lines": (infer({"inputs": [tensor(name="a\nb")]}), 400, "name"),
    "another datatype": (infer({"inputs": [tensor(datatype="FP32")]}), 400, "INT64"),
    "no datatype": (infer({"inputs": [tensor(datatype=None)]}), 400, "INT64"),
    "another shape": (infer({"inputs": [tensor(shape=[2, 3])]}), 400, "[n, 2]"),
    "a shape of truth values": (infer({"inputs": [tensor(shape=[True, 2], data=[1, 2])]}), 400, "[n, 2]"),
    "a negative shape": (infer({"inputs": [tensor(shape=[-1, 2])]}), 400, "[n, 2]"),
    "no rows": (infer({"inputs": [tensor(shape=[0, 2], data=[])]}), 400, "[n, 2]"),
    "a shape of nonsense": (infer({"inputs": [tensor(shape="3,2")]}), 400, "[n, 2]"),
    "too few values": (infer({"inputs": [tensor(data=[1, 2, 3])]}), 400, "6 values; got 3"),
    "ragged": (infer({"inputs": [tensor(data=[[1], [2, 3, 4], [5, 6]])]}), 400, "same shape"),
    "mixed depths": (infer({"inputs": [tensor(data=[[1, 2], 3, 4, 5, 6])]}), 400, "depth"),
    "another nesting": (infer({"inputs": [tensor(data=[[1, 2, 3], [4, 5, 6]])]}), 400, "shape"),
    "a text among numbers": (infer({"inputs": [tensor(data=[1, 2, 3, 4, 5, "x" * 99])]}), 400, "numbers"),
    "no number": (infer({"inputs": [tensor(data=[1, 2, 3, 4, 5, None])]}), 400, "numbers"),
    "a fraction": (infer({"inputs": [tensor(data=[1, 2, 3, 4, 5, 0.5])]}), 400, "int64"),
    "data of nonsense": (infer({"inputs": [tensor(data={})]}), 400, "list"),
    "no data": (infer({"inputs": [tensor(data=None)]}), 400, "either"),
    "data twice": (infer({"inputs": [tensor(parameters={"binary_data_size": 48})]}, RAW_ROWS), 400, "either"),
    "deep nesting": (infer(DEEP % (b"[" * 900 + b"]" * 900)), 400, "depth"),
    "deep nesting elsewhere": (infer(b'{"inputs": [{"name": %s}]}' % (b"[" * 1000 + b"]" * 1000)), 400, "name"),
    "endless nesting": (infer(DEEP % (b"[" * 2000)), 400, "JSON"),
    "fewer bytes than announced": (infer({"inputs": [raw_tensor()]}, RAW_ROWS[:-1]), 400, "47 bytes follow"),
    "more bytes than announced": (infer({"inputs": [raw_tensor()]}, RAW_ROWS + b"x"), 400, "49 bytes follow"),
    "size and shape differ": (infer({"inputs": [raw_tensor(40)]}, RAW_ROWS[:40]), 400, "48 bytes; got 40"),
    "unannounced bytes": (infer({"inputs": [tensor()]}, b"xyz"), 400, "3 bytes follow"),
    "a negative size": (infer({"inputs": [raw_tensor(-48)]}, RAW_ROWS), 400, "-48"),
    "a size of nonsense": (infer({"inputs": [raw_tensor("48")]}, RAW_ROWS), 400, "whole number"),
    "a huge size": (infer({"inputs": [raw_tensor(10**18)]}, RAW_ROWS), 400, "the size of the inputs is"),
    "raw without a header": (infer(json.dumps({"inputs": [raw_tensor()]}).encode() + RAW_ROWS), 400, "JSON"),
    **{
        f"header length {text}": (
            infer({"inputs": [raw_tensor()]}, RAW_ROWS, inference_header_content_length=text),
            400,
            words,
        )
        for text, words in {
            "7": "not JSON",
            **dict.fromkeys(("-1", "9" * 30, "2e1", "", "100000"), "length of the JSON"),
        }.items()
    },
    "an unknown output": (infer({"inputs": [tensor()], "outputs": [{"name": "logits"}]}), 400, "'logits'"),
    "an output twice": (infer({"inputs": [tensor()], "outputs": [{"name": "answer"}] * 2}), 400, "twice"),
    "an output without a name": (infer({"inputs": [tensor()], "outputs": [{}]}), 400, "there is no output"),
    "an output of lists": (infer({"inputs": [tensor()], "outputs": [{"name": [1]}]}), 400, "[1]"),
    "classification": (infer({"inputs": [tensor()], "outputs": [
        {"name": "answer", "parameters": {"classification": 2}}]}), 400, "classification"),
    "parameters of nonsense": (infer({"inputs": [tensor()], "parameters": []}), 400, "parameters"),
    "a flag of nonsense": (infer({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}), 400, "true"),
    "an id of nonsense": (infer({"inputs": [tensor()], "id": 7}), 400, "'id'"),
    "a negative timeout": (infer({"inputs": [tensor()], "parameters": {"timeout": -1}}), 400, "timeout"),
    "a timeout of nonsense": (infer({"inputs": [tensor()], "parameters": {"timeout": 0.5}}), 400, "timeout"),
    "too many rows": (infer({"inputs": [tensor(shape=[33, 2], data=[0] * 66)]}), 413, "32 rows"),
    "too many bytes": (infer({"inputs": [tensor(data=[0] * 5000)]}), 413, "4096"),
    "compressed": (infer(gzip.compress(json.dumps({"inputs": [tensor()]}).encode()), content_encoding="gzip"), 415,
                   "encoding"),
    "an unknown model": (infer({"inputs": [tensor()]}, path="/v2/models/other/infer"), 404, "'fake'"),
    "metadata of an unknown model": (get("/v2/models/other"), 404, "'other'"),
    "an unknown version": (infer({"inputs": [tensor()]}, path="/v2/models/fake/versions/1/infer"), 404, POLICY.version),
    "metadata of an unknown version": (get("/v2/models/fake/versions/1"), 404, "'1'"),
    "no version": (get("/v2/models/fake/versions//ready"), 404, "there is no"),
    "two versions": (get(f"/v2/models/fake/versions/{POLICY.version}/versions/1"), 404, "there is no"),
    "an unknown ending": (get("/v2/models/fake/stats"), 404, "openapi"),
    "a version of something else": (get(f"/v2/models/fake/ready/versions/{POLICY.version}"), 404, "openapi"),
    "another method": (get(INFER), 405, "POST"),
    "another method of a version": (get(f"/v2/models/fake/versions/{POLICY.version}/infer"), 405, "POST"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_request_gets_one_sentence(config, name):
    request, status, words = BAD[name]
    (response,) = ask(ConstantService(config), request)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    assert words in response.json()["error"]
    assert "\n" not in response.json()["error"]
    assert len(response.json()["error"]) < 300


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_refused(bad):
    raw = np.array([bad], "<f4").tobytes()
    request = infer({"inputs": [raw_tensor(4, datatype="FP32", shape=[1])]}, raw)
    (response,) = ask(Keeping(with_rows("float32")), request)
    assert (response.status_code, "finite" in response.text) == (400, True)


def test_booleans_are_bytes_of_zero_and_one():
    request = infer({"inputs": [raw_tensor(1, datatype="BOOL", shape=[1])]}, b"\2")
    (response,) = ask(Keeping(with_rows("bool")), request)
    assert (response.status_code, "0 or 1" in response.text) == (400, True)


def test_a_request_for_a_version_is_refused_if_the_policy_changes_meanwhile(config):
    class Changing(ConstantService):
        async def answer_rows(self, rows, overrides):
            return await super().answer_rows(rows, overrides) | {"policy_version": "newer"}

    request = infer({"inputs": [tensor()]}, path=f"/v2/models/fake/versions/{POLICY.version}/infer")
    (response,) = ask(Changing(config), request)
    assert (response.status_code, "newer" in response.text) == (404, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=12,
)
SIZES = st.lists(st.integers(-2, 70), max_size=3)


def mostly(usual):
    return st.one_of(usual, usual, usual, JSON)


PARAMETERS = mostly(
    st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "timeout", "binary_data_output"]), JSON)
)
TENSORS = st.fixed_dictionaries(
    {"name": mostly(st.just("rows")), "datatype": mostly(st.just("INT64")), "shape": mostly(SIZES | st.just([1, 2]))},
    optional={"data": mostly(st.lists(st.integers(), max_size=3) | st.just([1, 2])), "parameters": PARAMETERS},
)
BODIES = mostly(
    st.fixed_dictionaries(
        {"inputs": mostly(st.lists(TENSORS, max_size=2))},
        optional={
            "id": JSON,
            "parameters": PARAMETERS,
            "outputs": mostly(st.lists(st.fixed_dictionaries({"name": mostly(st.just("answer"))}))),
        },
    )
)


@settings(max_examples=150, deadline=None)
@given(
    BODIES.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=60),
    st.binary(max_size=20) | st.just(RAW_ROWS),
    st.none() | st.text(alphabet="0123456789-+. e", max_size=12),
)
def test_no_body_is_an_internal_error(config, body, raw, length):
    headers = {} if length is None else {"inference_header_content_length": length}
    (response,) = ask(ConstantService(config), infer(body, raw, **headers))
    assert response.status_code in (200, 400, 413), response.text
    outputs(response) if response.status_code == 200 else response.json()["error"]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="/v2models.ferady%ins", max_size=30), st.sampled_from(["GET", "POST", "PUT", "X"]))
def test_no_path_is_an_internal_error(config, path, method):
    (response,) = ask(ConstantService(config), {"method": method, "url": f"http://test/{path}"})
    assert response.status_code in (200, 400, 404, 405), response.text
