"""The Open Inference Protocol over gRPC on a real port, without Ray: every form of a call, and every error."""

import asyncio
import socket

import grpc
import numpy as np
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from local_service import POLICY, ConstantService, LocalService
from serving_process import free_port

from cascade.serving.auth.guard import Guard
from cascade.serving.auth.keys import KeyRing
from cascade.serving.bodies.pending_bodies import PendingBodies
from cascade.serving.errors import DeadlineExceeded, Overloaded
from cascade.serving.oip.grpc_listener import GrpcListener
from cascade.serving.oip.protobuf import SERVICE, new_message, parse_message

ROWS = [[0, 5], [3, 5], [6, 5]]
RAW_ROWS = np.array(ROWS, "<i8").tobytes()


OPEN = Guard()
KEY = "the-key-0123456789"


def call(service, *calls, guard=OPEN, metadata=None, authority=None, bodies=None, **options):
    """Calls a listener; returns the message of each call, or the code and the sentence of its error.

    Args:
        service: behind it.
        calls: (method, bytes of the message).
        guard: before it.
        metadata: of each call.
        bodies: the bytes of all bodies.
        authority: certificate that the listener's must lead to; ``None`` for no TLS.
        options: of each call.
    """

    async def ask(channel, method, content):
        try:
            answer = await channel.unary_unary(f"/{SERVICE}/{method}")(
                content, timeout=20, metadata=metadata, **options
            )
            return parse_message(f"{method}Response", answer)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()

    async def main():
        listener = GrpcListener(service, guard, port := free_port(), bodies=bodies)
        await listener.start()
        assert listener.alive
        try:
            async with new_channel(f"127.0.0.1:{port}", authority) as channel:
                return await asyncio.gather(*(ask(channel, *each) for each in calls))
        finally:
            await listener.stop()
            assert not listener.alive

    return asyncio.run(main())


def new_channel(address, authority):
    if authority is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority))


def infer(raw=(RAW_ROWS,), contents=None, tensor=None, **request):
    """A call of ModelInfer."""
    rows = {"name": "rows", "datatype": "INT64", "shape": [3, 2]} | (tensor or {})
    if contents is not None:
        rows["contents"] = contents
    message = {"model_name": "fake", "inputs": [rows], "raw_input_contents": raw} | request
    return "ModelInfer", new_message("ModelInferRequest", **message).SerializeToString()


def ask_metadata(method, **fields):
    return method, new_message(f"{method}Request", **fields).SerializeToString()


def outputs(response):
    assert len(response.outputs) == len(response.raw_output_contents)
    for output, raw in zip(response.outputs, response.raw_output_contents):
        assert output.shape == [len(ROWS)]
        yield output.name, raw


def test_raw_and_typed_contents_get_the_same_answers(config):
    raw, typed = call(
        LocalService(config), infer(id="7"), infer((), {"int64_contents": sum(ROWS[1:], ROWS[0])}, id="7")
    )
    assert raw == typed
    assert (raw.id, raw.model_name, raw.model_version) == ("7", "fake", POLICY.version)
    found = dict(outputs(raw))
    assert np.frombuffer(found["answer"], "<i8").tolist() == [0, 3, 2]
    assert np.frombuffer(found["confidence"], "<f8") == pytest.approx([0.9, 0.97, 0.9])
    assert found["stage"] == b"\5\0\0\0small\3\0\0\0big\5\0\0\0small"
    assert raw.parameters["policy_version"].string_param == POLICY.version


def test_only_requested_outputs_are_returned(config):
    (answer,) = call(LocalService(config), infer(outputs=[{"name": "cost"}, {"name": "label"}]))
    assert [name for name, _ in outputs(answer)] == ["cost", "label"]


def test_one_row_has_its_stage_in_the_parameters(config):
    (answer,) = call(LocalService(config), infer([RAW_ROWS[:16]], tensor={"shape": [1, 2]}))
    assert answer.parameters["stage"].string_param == "small"
    assert answer.parameters["confidence"].double_param == pytest.approx(0.9)


def test_metadata(config):
    live, ready, server, model_ready, model = call(
        ConstantService(config),
        ask_metadata("ServerLive"),
        ask_metadata("ServerReady"),
        ask_metadata("ServerMetadata"),
        ask_metadata("ModelReady", name="fake", version=POLICY.version),
        ask_metadata("ModelMetadata", name="fake"),
    )
    assert (live.live, ready.ready, model_ready.ready) == (True, True, True)
    assert server.name == "idk-cascade"
    assert (model.name, list(model.versions)) == ("fake", [POLICY.version])
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("rows", "INT64", [-1, 2])]


BAD = {
    "not a message": (("ModelInfer", b"\xff\xff\xff"), "INVALID_ARGUMENT", "ModelInferRequest"),
    "text that is none": (("ModelInfer", b"\x0a\x01\xff"), "INVALID_ARGUMENT", "ModelInferRequest"),
    "empty": (("ModelInfer", b""), "NOT_FOUND", "no model ''"),
    "unknown model": (infer(model_name="other"), "NOT_FOUND", "'other'"),
    "unknown version": (infer(model_version="1"), "NOT_FOUND", "'1'"),
    "metadata of an unknown model": (ask_metadata("ModelMetadata", name="other"), "NOT_FOUND", "'other'"),
    "readiness of an unknown version": (ask_metadata("ModelReady", name="fake", version="1"), "NOT_FOUND", "'1'"),
    "no input": (infer(inputs=[]), "INVALID_ARGUMENT", "one input"),
    "another name": (infer(tensor={"name": "row"}), "INVALID_ARGUMENT", "'row'"),
    "another datatype": (infer(tensor={"datatype": "FP32"}), "INVALID_ARGUMENT", "INT64"),
    "another shape": (infer(tensor={"shape": [2, 3]}), "INVALID_ARGUMENT", "[n, 2]"),
    "a negative shape": (infer(tensor={"shape": [-3, 2]}), "INVALID_ARGUMENT", "[n, 2]"),
    "bytes are missing": (infer([RAW_ROWS[:-1]]), "INVALID_ARGUMENT", "48 bytes; got 47"),
    "no contents": (infer(()), "INVALID_ARGUMENT", "6 values; got 0"),
    "contents of another type": (infer((), {"fp32_contents": [0.0] * 6}), "INVALID_ARGUMENT", "6 values; got 0"),
    "more contents than the shape has": (infer((), {"int64_contents": [0] * 7}), "INVALID_ARGUMENT", "6 values; got 7"),
    "contents twice": (infer(contents={"int64_contents": [0] * 6}), "INVALID_ARGUMENT", "without typed contents"),
    "raw contents twice": (infer([RAW_ROWS] * 2), "INVALID_ARGUMENT", "once per input"),
    "unknown output": (infer(outputs=[{"name": "logits"}]), "INVALID_ARGUMENT", "'logits'"),
    "an output twice": (infer(outputs=[{"name": "cost"}] * 2), "INVALID_ARGUMENT", "twice"),
    "a negative timeout": (infer(parameters={"timeout": {"int64_param": -1}}), "INVALID_ARGUMENT", "timeout"),
    "a timeout of nonsense": (infer(parameters={"timeout": {"string_param": "1"}}), "INVALID_ARGUMENT", "timeout"),
    "too many rows": (infer([b"\0" * 33 * 16], tensor={"shape": [33, 2]}), "RESOURCE_EXHAUSTED", "32 rows"),
    "too many bytes": (infer([b"\0" * 100_000]), "RESOURCE_EXHAUSTED", "larger than max"),
    "unknown call": (("RepositoryIndex", b""), "UNIMPLEMENTED", ""),
}


def test_an_invalid_call_gets_a_code_and_one_sentence(config):
    found = call(ConstantService(config), *(each for each, _, _ in BAD.values()))
    for name, (code, sentence) in zip(BAD, found):
        assert (name, code) == (name, BAD[name][1]), sentence
        assert BAD[name][2] in sentence, name
        assert "\n" not in sentence


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded("full"), "UNAVAILABLE"),
        (DeadlineExceeded("late"), "DEADLINE_EXCEEDED"),
        (ZeroDivisionError("secret"), "INTERNAL"),
    ],
)
def test_errors_of_the_service_have_a_code(config, error, code):
    class Failing(ConstantService):
        async def answer_rows(self, rows, overrides):
            raise error

    ((found, sentence),) = call(Failing(config), infer())
    assert found == code
    assert "secret" not in sentence


def test_the_shorter_timeout_counts(config):
    asked = []

    class Noting(ConstantService):
        async def answer_rows(self, rows, overrides):
            asked.append(overrides.timeout_s)
            return await super().answer_rows(rows, overrides)

    call(Noting(config), infer(parameters={"timeout": {"uint64_param": 1500}}), infer())
    assert sorted(asked) == [0.0015, pytest.approx(20, abs=5)]


def test_readiness_of_an_unready_cascade(config):
    class NotReady(ConstantService):
        is_ready = False

    server, model = call(NotReady(config), ask_metadata("ServerReady"), ask_metadata("ModelReady", name="fake"))
    assert (server.ready, model.ready) == (False, False)


def test_a_compressed_message_is_refused_and_not_expanded(config):
    service = ConstantService(config)
    fits, too_large = infer(), infer([b"\0" * (8 << 20)])  # the latter is 8 kB when compressed
    for found in call(service, fits, too_large, compression=grpc.Compression.Gzip):
        assert found == (
            "INVALID_ARGUMENT",
            "the message is not a ModelInferRequest; compressed messages are not supported",
        )


class KeepingService(ConstantService):
    """Stores the rows of any kind."""

    def __init__(self, config, **rows):
        super().__init__(config.model_copy(update={"rows": config.rows.model_copy(update=rows)}))
        self.seen = []

    async def answer_rows(self, rows, overrides):
        self.seen.append(rows.tolist())
        return await super().answer_rows(np.zeros((len(rows), 2), dtype=np.int64), overrides)


def test_float16_must_be_raw(config):
    service, half = KeepingService(config, dtype="float16"), {"datatype": "FP16"}
    raw = np.array(ROWS, "<f2").tobytes()
    typed, answered = call(service, infer((), {"fp32_contents": [0.0] * 6}, half), infer([raw], None, half))
    assert (typed[0], "raw" in typed[1]) == ("INVALID_ARGUMENT", True)
    assert len(list(outputs(answered))) == 7
    assert service.seen == [ROWS]


def test_texts_may_be_raw_or_typed(config):
    service, texts = KeepingService(config, dtype="text", shape=()), {"datatype": "BYTES", "shape": [3]}
    u = "ü".encode()
    _, _, bad = call(
        service,
        infer((), {"bytes_contents": [b"a", b"", u]}, texts),
        infer([b"\1\0\0\0a\0\0\0\0\2\0\0\0" + u], None, texts),
        infer((), {"bytes_contents": [b"a", b"", b"\xff"]}, texts),
    )
    assert service.seen == [["a", "", "ü"]] * 2
    assert (bad[0], "UTF-8" in bad[1]) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (None, "UNAUTHENTICATED"),
        ([("authorization", "Bearer another-key-0123")], "UNAUTHENTICATED"),
        ([("authorization", f"Bearer {KEY}"), ("authorization", "Bearer x")], "UNAUTHENTICATED"),
        ([("authorization", f"Bearer {KEY}")], None),
    ],
)
def test_a_call_needs_a_key_and_a_health_check_none(config, monkeypatch, metadata, code):
    monkeypatch.setenv("CASCADE_TEST_KEYS", KEY)
    answer, bad, live, ready = call(
        ConstantService(config),
        infer(),
        ("ModelInfer", b"\xff"),
        ask_metadata("ServerLive"),
        ask_metadata("ServerReady"),
        guard=Guard(KeyRing("CASCADE_TEST_KEYS")),
        metadata=metadata,
    )
    assert (live.live, ready.ready) == (True, True)
    assert bad[0] == (code or "INVALID_ARGUMENT")
    if code is None:
        assert answer.model_name == "fake"
    else:
        assert answer[0] == code
        assert KEY not in answer[1]


def test_a_listener_with_a_certificate_refuses_plain_connections(config, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    files = {"tls_certificate": tmp_path / "certificate.pem", "tls_key": tmp_path / "key.pem"}
    service = ConstantService(config.model_copy(update={"serving": config.serving.model_copy(update=files)}))
    (answer,) = call(service, infer(), authority=authority.cert_pem.bytes())
    assert answer.model_name == "fake"
    assert call(service, infer())[0][0] == "UNAVAILABLE"
    assert call(service, infer(), authority=trustme.CA().cert_pem.bytes())[0][0] == "UNAVAILABLE"


@settings(max_examples=5, deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=40, max_size=40))
def test_no_message_is_an_internal_error(config, contents):
    for found in call(ConstantService(config), *(("ModelInfer", content) for content in contents)):
        assert found[0] in ("INVALID_ARGUMENT", "NOT_FOUND")


def test_a_taken_port_is_an_error(config):
    async def main():
        with lonely_socket() as taken, pytest.raises(OSError, match="cannot listen"):
            await GrpcListener(ConstantService(config), OPEN, taken.getsockname()[1]).start()

    asyncio.run(main())


def lonely_socket():
    """A listening socket that does not share its port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    return listening


def test_messages_are_bounded_together_and_released(config):
    bodies = PendingBodies(1000)
    bodies.hold(990)
    ((code, sentence),) = call(ConstantService(config), infer(), bodies=bodies)
    assert (code, bodies.held_bytes) == ("UNAVAILABLE", 990)
    assert "1000 bytes" in sentence
    bodies.release(990)
    for each in (infer(), ("ModelInfer", b"\xff" * 100)):
        call(ConstantService(config), each, bodies=bodies)
        assert bodies.held_bytes == 0
