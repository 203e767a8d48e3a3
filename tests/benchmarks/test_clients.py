"""Clients of targets: connections, bodies, credentials, and answers that count as failures."""

import asyncio
import json
import socket
import ssl

import numpy as np
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from stub_server import STAGES, StubServer, answer_rightly, columns

from cascade.benchmarks.clients.answers import AnswerReader
from cascade.benchmarks.clients.http_bodies import body_of, request_body
from cascade.benchmarks.clients.http_lanes import Credentials, HttpAddress, HttpLanes, inputs_of
from cascade.benchmarks.clients.lane import ANSWERED, CONNECTION, INVALID, name_of
from cascade.benchmarks.clients.oip_tensors import InputForm
from cascade.benchmarks.errors import TargetError
from cascade.benchmarks.generator.processes import probe
from cascade.benchmarks.workload import Batch, Workload
from cascade.config import CascadeConfig
from cascade.serving.bodies.wire import decode_rows
from cascade.serving.oip.http_bodies import decode_inference

ROWS = np.zeros((3, 2), np.uint8)
WORKLOAD = Workload((Batch(ROWS, None),))
READER = AnswerReader(stages=frozenset(STAGES))


def asked(answer, requests=(0,), timeout_s=5.0, reader=READER, **lanes):
    """What a server's answers become."""
    server = StubServer(answer)
    with server.running() as url:
        opened = HttpLanes(
            HttpAddress(url, lanes.pop("credentials", Credentials())), "/predict", WORKLOAD, reader, **lanes
        )
        found = asyncio.run(probe(opened, timeout_s, requests))
    return found, server


def answering(content, status=200):
    async def answer(request):
        return status, content

    return answer


def test_an_answer_is_its_columns_and_a_connection_is_kept():
    found, server = asked(answer_rightly, (0, 0, 0))
    assert found == [(ANSWERED, columns(3))] * 3
    assert server.connections == 1


def test_a_connection_that_the_server_closes_is_opened_again():
    async def answer(request):
        body = json.dumps(columns(3)).encode()
        return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    found, server = asked(answer, (0, 0, 0))
    assert [status for status, _ in found] == [ANSWERED] * 3
    assert server.connections >= 3


def test_an_answer_in_chunks_is_read():
    async def answer(request):
        body = json.dumps(columns(3)).encode()
        parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:]))
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"

    assert asked(answer)[0] == [(ANSWERED, columns(3))]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"{not json", "is not JSON"),
        ([1, 2], "no column 'answer'"),
        ({}, "no column 'answer'"),
        (columns(3) | {"answer": [1, 1]}, "3 rows were sent"),
        (columns(3) | {"stage": ["small"] * 4}, "'stage' does not have as many"),
        (columns(3) | {"cost": []}, "'cost' does not have as many"),
        (columns(3) | {"stage": ["small", "other", "big"]}, "stage 'other' answered"),
        (columns(3) | {"answer": ["a", "b", "c"]}, "'answer' has values of a wrong kind"),
        (columns(3) | {"answer": [1, None, 1]}, "'answer' has values of a wrong kind"),
        (columns(3) | {"answer": [1, 0.5, 1]}, "'answer' has values of a wrong kind"),
        (columns(3) | {"cost": [1.0, None, 1.0]}, "'cost' has values of a wrong kind"),
        (columns(3) | {"stage": [["small"], "big", "big"]}, "'stage' has values of a wrong kind"),
        (columns(3, answer=77), "classes from 0 to 9"),
    ],
)
def test_an_answer_that_does_not_fit_counts_as_failed_and_the_load_goes_on(answer, message):
    found, _ = asked(answering(answer), (0, 0), reader=AnswerReader(stages=frozenset(STAGES), classes=10))
    assert [status for status, _ in found] == [INVALID, INVALID]
    assert message in found[0][1]


@pytest.mark.parametrize(
    ("body", "message"),
    [({"error": "the queue is full"}, "the queue is full"), (b"<h1>busy</h1>", "<h1>busy</h1>"), (b"", "(nothing)")],
)
def test_another_status_is_a_failed_request_with_the_servers_words(body, message):
    assert asked(answering(body, 503))[0] == [(503, message)]


async def end(request):
    return None


async def noise(request):
    return b"\x16\x03\x01 this is not HTTP\r\n\r\n"


@pytest.mark.parametrize("answer", [end, noise])
def test_a_lost_connection_is_a_failed_request(answer):
    (found,), _ = asked(answer)
    assert found[0] == CONNECTION
    assert found[1]


def test_a_server_that_never_answers_is_named():
    async def never(request):
        await asyncio.sleep(5)

    with pytest.raises(TargetError, match=r"does not answer a request within 0\.2 s"):
        asked(never, timeout_s=0.2)


def test_a_refused_connection_is_one_clear_error():
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TargetError, match=rf"nothing answers at {url} \(.*refused.*\)"):
            asyncio.run(probe(HttpLanes(HttpAddress(url), "/predict", WORKLOAD, READER), 1.0))


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999", "http://[", "127.0.0.1", "http:///x"])
def test_what_is_no_address_is_one_clear_error(url):
    with pytest.raises(TargetError, match=r"http|answers"):
        asyncio.run(probe(HttpLanes(HttpAddress(url), "/predict", WORKLOAD, READER), 1.0))


def test_a_key_is_sent_and_never_shown():
    seen = []

    async def answer(request):
        seen.append(request.headers.get("authorization"))
        return 200, columns(request.rows)

    credentials = Credentials("secret")
    asked(answer, credentials=credentials)
    assert seen == ["Bearer secret"]
    assert "secret" not in repr(credentials)


def test_files_of_certificates_that_cannot_be_used_are_named(tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("no certificate")
    with pytest.raises(TargetError, match="cannot be used"):
        Credentials(authority=authority).tls_context()
    trustme.CA().cert_pem.write_to_path(authority)
    with pytest.raises(TargetError, match="cannot be used"):
        Credentials(authority=authority, certificate=tmp_path / "missing.pem").tls_context()


def test_servers_with_certificates_are_reached_and_a_client_shows_its_own(tmp_path):
    ours, other = trustme.CA(), trustme.CA()
    for name, authority in (("ours", ours), ("other", other)):
        authority.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    pair = ours.issue_cert("client@example.org")
    pair.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    ours.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with StubServer(answer_rightly).running(context) as url:

        def found(**files):
            address = HttpAddress(url, Credentials(**files))
            return asyncio.run(probe(HttpLanes(address, "/predict", WORKLOAD, READER), 5.0))

        shown = {"certificate": tmp_path / "client.pem"}
        assert found(authority=tmp_path / "ours.pem", **shown) == [(ANSWERED, columns(3))]
        with pytest.raises(TargetError, match=r"certificate of .* is not trusted \(.*\); --ca FILE"):
            found(authority=tmp_path / "other.pem", **shown)
        ((status, _),) = found(authority=tmp_path / "ours.pem")  # TLS 1.3 refuses after the handshake
        assert status == CONNECTION


def config(shape, dtype):
    stages = [{"name": "a", "backend": {"type": "custom", "object": "a:b"}}]
    return CascadeConfig.model_validate({"name": "x", "rows": {"shape": shape, "dtype": dtype}, "stages": stages})


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float16", "bool"])
@pytest.mark.parametrize("kind", ["binary", "json", "oip-json", "oip-binary"])
@given(shape=st.lists(st.integers(1, 3), max_size=3), n=st.integers(1, 4))
def test_a_server_reads_the_very_rows_that_were_sent(kind, dtype, shape, n):
    rows = np.random.default_rng(n).integers(0, 2, (n, *shape)).astype(dtype)
    body, headers = body_of(rows, kind)
    lower = {key.lower(): value for key, value in headers.items()}
    if kind.startswith("oip"):
        read = decode_inference(lower, body, config(shape, dtype)).rows
    else:
        read = decode_rows(lower, body, config(shape, dtype))
    assert read.dtype == rows.dtype
    np.testing.assert_array_equal(read, rows)


@pytest.mark.parametrize("kind", ["oip-json", "oip-binary"])
def test_texts_are_sent_by_the_protocol_as_well(kind):
    rows = np.array(["a", 'ü "b"'], dtype=object)
    body, headers = body_of(rows, kind)
    read = decode_inference({key.lower(): value for key, value in headers.items()}, body, config([], "text")).rows
    assert read.tolist() == rows.tolist()


def test_the_time_that_is_left_is_sent_in_the_words_of_each_protocol():
    assert body_of(ROWS, "binary", timeout_s=0.25)[1]["X-Timeout-Ms"] == "250.000"
    assert body_of(ROWS, "json", timeout_s=0.25)[1]["X-Timeout-Ms"] == "250.000"
    for kind in ("oip-json", "oip-binary"):
        body, headers = body_of(ROWS, kind, timeout_s=0.25)
        lower = {key.lower(): value for key, value in headers.items()}
        assert decode_inference(lower, body, config([2], "uint8")).timeout_s == 0.25


def test_texts_are_sent_as_json():
    body, headers = request_body(np.array(["a", 'ü "b"'], dtype=object))
    assert json.loads(body) == {"rows": ["a", 'ü "b"']}
    assert headers["Content-Type"] == "application/json"


def oip(name, data, shape):
    return {"outputs": [{"name": "other", "data": [0], "shape": [1]}, {"name": name, "data": data, "shape": shape}]}


@pytest.mark.parametrize(
    ("content", "output", "answer"),
    [
        (oip("answer", [1, 2, 3], [3]), None, [1, 2, 3]),
        (oip("scores", [0.1, 0.9, 0.8, 0.2, 0.3, 0.7], [3, 2]), "scores", [1, 0, 1]),
        (oip("scores", [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [3, 2]), "scores", [1, 0, 1]),
        (oip("label", ["x", "y", "z"], [3, 1]), "label", ["x", "y", "z"]),
        ({"outputs": []}, None, None),
        ({"error": "x"}, None, None),
        (oip("answer", [1, 2], [2]), None, None),
        (oip("answer", [1, 2, 3], [3]), "missing", None),
    ],
)
def test_answers_of_any_server_of_the_protocol_are_read(content, output, answer):
    reader = AnswerReader("oip", output=output)
    ((status, found),), _ = asked(answering(content), reader=reader, body="oip-json")
    if answer is None:
        assert status == INVALID
    else:
        assert (status, found["answer"]) == (ANSWERED, answer)


def test_the_input_of_a_foreign_model_is_asked_for():
    async def answer(request):
        found = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
        return (200, found) if request.path == "/v2/models/m" else (404, {"error": "unknown model"})

    with StubServer(answer).running() as url:
        assert asyncio.run(inputs_of(HttpAddress(url), "m", 5.0)) == [InputForm("x", "FP32", 2)]
        with pytest.raises(TargetError, match="answered 404: unknown model"):
            asyncio.run(inputs_of(HttpAddress(url), "n", 5.0))


def test_statuses_have_names():
    assert [name_of(status) for status in (503, -1, -3, 1014)] == ["503", "timeout", "invalid answer", "grpc 14"]
