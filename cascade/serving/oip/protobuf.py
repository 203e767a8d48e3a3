"""Protobuf messages of the Open Inference Protocol, built when the module is imported.

Names, numbers and types of the fields are the protocol's:
https://github.com/open-inference/open-inference-protocol, specification/protocol/open_inference_grpc.proto. Code from
the protocol compiler would tie the project to one version of protobuf. The messages have their own descriptor pool, so
that a client's copy of them can be in the same process.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["SERVICE", "new_message", "parse_message"]

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# Each field: name, type; "*" repeated, "?" optional, "|" in a oneof, ">" a map with string keys.
_TENSOR = "name string, datatype string, shape int64*, parameters InferParameter>, contents InferTensorContents"
_FIELDS = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready bool",
    "ModelReadyRequest": "name string, version string?",
    "ModelReadyResponse": "ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name string, version string, extensions string*",
    "ModelMetadataRequest": "name string, version string?",
    "ModelMetadataResponse": (
        "name string, versions string*, platform string, inputs TensorMetadata*, outputs TensorMetadata*, "
        "properties string>"
    ),
    "ModelMetadataResponse.TensorMetadata": "name string, datatype string, shape int64*",
    "ModelInferRequest": (
        "model_name string, model_version string?, id string, parameters InferParameter>, "
        "inputs InferInputTensor*, outputs InferRequestedOutputTensor*, raw_input_contents bytes*"
    ),
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": "name string, parameters InferParameter>",
    "ModelInferResponse": (
        "model_name string, model_version string, id string, parameters InferParameter>, "
        "outputs InferOutputTensor*, raw_output_contents bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "InferParameter": (
        "bool_param bool|, int64_param int64|, string_param string|, double_param double|, uint64_param uint64|"
    ),
    "InferTensorContents": (
        "bool_contents bool*, int_contents int32*, int64_contents int64*, uint_contents uint32*, "
        "uint64_contents uint64*, fp32_contents float*, fp64_contents double*, bytes_contents bytes*"
    ),
}
"""Fields of each message, numbered from 1 in this order."""

_Field = descriptor_pb2.FieldDescriptorProto


def new_message(name: str, /, **fields: Any) -> Any:
    """Creates a message.

    Args:
        name: such as "ModelInferResponse".
        fields: values of its fields.
    """
    return _CLASSES[name](**fields)


def parse_message(name: str, content: bytes) -> Any:
    """Reads a message.

    Raises:
        google.protobuf.message.DecodeError: the bytes are not such a message.
    """
    return _CLASSES[name].FromString(content)


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    messages: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name in _FIELDS:
        outer, _, inner = name.rpartition(".")
        messages[name] = (messages[outer].nested_type if outer else file.message_type).add(name=inner)
    for name, fields in _FIELDS.items():
        for number, field in enumerate(filter(None, fields.split(", ")), 1):
            field_name, kind = field.split(" ")
            _add_field(messages[name], name, field_name, kind, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in messages}


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, name: str, kind: str, number: int) -> None:
    bare, mark = kind.rstrip("*?|>"), kind[-1]
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if mark == ">":
        entry = message.nested_type.add(name=name.title() + "Entry")
        entry.options.map_entry = True
        _add_field(entry, path, "key", "string", 1)
        _add_field(entry, path, "value", bare, 2)
        bare = f"{path}.{entry.name}"
    if mark in "*>":
        field.label = _Field.LABEL_REPEATED
    elif mark == "|":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    elif mark == "?":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
    if bare[0].islower():
        field.type = getattr(_Field, f"TYPE_{bare.upper()}")
    else:
        field.type = _Field.TYPE_MESSAGE
        nested = f"{path}.{bare}" if f"{path}.{bare}" in _FIELDS else bare
        field.type_name = f".{PACKAGE}.{nested}"


_CLASSES = _build()
