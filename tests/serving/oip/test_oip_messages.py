"""The messages match the protocol: they are compared with classes generated from its file."""

import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from cascade.serving.oip.protobuf import new_message, parse_message

CALLS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")


def fields(message):
    """(number, type, whether it is repeated, its own fields) of every field of a message, by name."""
    return {
        field.name: (field.number, field.type, field.is_repeated, field.message_type and fields(field.message_type))
        for field in message.fields
    }


@pytest.mark.parametrize("name", [call + kind for call in CALLS for kind in ("Request", "Response")])
def test_every_field_matches_the_published_protocol(name):
    theirs, ours = fields(getattr(service_pb2, name).DESCRIPTOR), fields(new_message(name).DESCRIPTOR)
    assert theirs.keys() <= ours.keys()
    assert {field: ours[field] for field in theirs} == theirs


def filled(new):
    tensor = {"name": "rows", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [0.5, 2]}}
    parameters = {"a": {"bool_param": True}, "b": {"int64_param": -3}, "c": {"string_param": "ü"}}
    content = {"model_name": "m", "model_version": "7", "id": "i", "parameters": parameters, "inputs": [tensor],
               "outputs": [{"name": "answer"}], "raw_input_contents": [b"12"]}  # fmt: skip
    return new(**content)


def test_messages_are_compatible_with_a_clients():
    theirs = filled(service_pb2.ModelInferRequest)
    ours = filled(lambda **content: new_message("ModelInferRequest", **content))
    assert parse_message("ModelInferRequest", theirs.SerializeToString()) == ours
    assert service_pb2.ModelInferRequest.FromString(ours.SerializeToString()) == theirs


def test_an_unset_field_differs_from_an_empty_one():
    assert not new_message("ModelInferRequest").HasField("model_version")
    assert new_message("ModelInferRequest", model_version="").HasField("model_version")


def test_invalid_bytes_are_an_error():
    with pytest.raises(DecodeError):
        parse_message("ModelInferRequest", b"\xff")
