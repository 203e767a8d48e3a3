"""Bodies of the Open Inference Protocol over HTTP: JSON, followed by raw tensors where the client requests them.

Sources: https://github.com/open-inference/open-inference-protocol, specification/protocol/inference_rest.md; the
binary tensor data extension, https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/
extension_binary_data.html.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.bodies.json_size import check_json_size
from cascade.serving.oip.image_input import IMAGE_INPUT, check_image_tensor, from_base64, from_raw
from cascade.serving.oip.inference import (
    Inference,
    Output,
    check_outputs,
    max_stage,
    output_tensors,
    response_parameters,
    timeout_s,
)
from cascade.serving.oip.inputs import decode_inputs
from cascade.serving.oip.tensors import InputTensor, Tensor, describe_value, encode_raw

__all__ = ["HEADER_LENGTH", "decode_inference", "encode_inference"]

HEADER_LENGTH = "inference-header-content-length"
"""Header with the length of the JSON in bytes, where raw tensors follow it."""


def decode_inference(headers: Mapping[str, str], body: bytes, config: CascadeConfig) -> Inference:
    """Reads the body of a request.

    Args:
        headers: names in lower case; ``HEADER_LENGTH`` has the length of the JSON.
        body: of the request.
        config: of the cascade.

    Raises:
        RowsError: the body is not a valid request, or a length in it is wrong.
        BodyTooLarge: the request has too many rows.
    """
    json_bytes = _json_bytes(headers, body)
    check_json_size(memoryview(body)[:json_bytes], config)
    try:
        content = orjson.loads(memoryview(body)[:json_bytes])
    except orjson.JSONDecodeError as error:
        raise RowsError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise RowsError('the body must be a JSON object with "inputs"')
    parameters = _parameters(content, "the request")
    request_id = content.get("id", "")
    if not isinstance(request_id, str):
        raise RowsError(f"'id' must be a string; got {describe_value(request_id)}")
    binary = _flag(parameters, "binary_data_output", default=False)
    rows = _rows(content, memoryview(body)[json_bytes:], config)
    requested = [_output(output, binary) for output in _objects(content, "outputs")]
    return Inference(
        rows,
        request_id,
        timeout_s(parameters.get("timeout")),
        max_stage(parameters.get("max_stage")),
        check_outputs(requested, config, has_image=isinstance(rows, bytes)),
        binary,
    )


def encode_inference(inference: Inference, columns: dict[str, Any], config: CascadeConfig) -> tuple[bytes, int | None]:
    """Writes the body of the response.

    Args:
        inference: the request.
        columns: its answer.
        config: of the cascade.

    Returns:
        The body, and the bytes of its JSON if raw tensors follow, else ``None``.
    """
    tensors = output_tensors(inference, columns)
    raw = [encode_raw(tensor) for tensor in tensors if tensor.binary]
    sizes = iter(map(len, raw))
    content = {
        "model_name": config.name,
        "model_version": columns["policy_version"],
        "parameters": response_parameters(columns),
        "outputs": [_encode(tensor, next(sizes) if tensor.binary else None) for tensor in tensors],
    }
    if inference.id:
        content["id"] = inference.id
    body = orjson.dumps(content)
    return (b"".join([body, *raw]), len(body)) if raw else (body, None)


def _encode(tensor: Tensor, raw_bytes: int | None) -> dict[str, Any]:
    described = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    if raw_bytes is None:
        return described | {"data": tensor.values}
    return described | {"parameters": {"binary_data_size": raw_bytes}}


def _json_bytes(headers: Mapping[str, str], body: bytes) -> int:
    text = headers.get(HEADER_LENGTH)
    if text is None:
        return len(body)
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= len(body)):
        raise RowsError(
            f"Inference-Header-Content-Length must be the length of the JSON, at most {len(body)}; got {text[:40]!r}"
        )
    return int(text)


def _rows(content: dict[str, Any], raw: memoryview, config: CascadeConfig) -> np.ndarray | bytes:
    """The rows of a request, or the bytes of its image."""
    inputs = _inputs(content, raw)
    if len(inputs) == 1 and inputs[0].name == IMAGE_INPUT and config.rows.columns is None:
        (image,) = inputs
        check_image_tensor(image.datatype, image.shape, config)
        return from_base64(image.content) if isinstance(image.content, list) else from_raw(image.content)
    return decode_inputs(inputs, config)


def _inputs(content: dict[str, Any], raw: memoryview) -> list[InputTensor]:
    """The inputs with their contents; raw ones follow the JSON in the order of the inputs."""
    found, start = [], 0
    for tensor in _objects(content, "inputs"):
        name = tensor.get("name")
        if not isinstance(name, str):
            raise RowsError(f"the name of an input must be a text; got {describe_value(name)}")
        size = _parameters(tensor, f"input {name[:60]!r}").get("binary_data_size")
        if (size is None) == ("data" not in tensor):
            raise RowsError(f"input {name[:60]!r} must have either 'data' or the parameter 'binary_data_size'")
        if size is None:
            data = tensor["data"]
            if not isinstance(data, list):
                raise RowsError(f"the data of input {name[:60]!r} must be a list")
        elif type(size) is not int or size < 0:
            raise RowsError(
                f"'binary_data_size' of input {name[:60]!r} must be a whole number; got {describe_value(size)}"
            )
        else:
            data = raw[start : start + size]
            start += size
        found.append(InputTensor(name, tensor.get("datatype"), tensor.get("shape"), data))
    if start != len(raw):
        raise RowsError(f"{len(raw)} bytes follow the JSON, but the size of the inputs is {start} bytes")
    return found


def _output(output: dict[str, Any], binary: bool) -> Output:
    parameters = _parameters(output, "an output")
    if "classification" in parameters:
        raise RowsError("the parameter 'classification' is not supported; request the output 'answer' or 'label'")
    return Output(output.get("name", ""), _flag(parameters, "binary_data", default=binary))


def _objects(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RowsError(f"{key!r} must be a list of JSON objects")
    return found


def _parameters(content: dict[str, Any], whose: str) -> dict[str, Any]:
    found = content.get("parameters", {})
    if not isinstance(found, dict):
        raise RowsError(f"the 'parameters' of {whose} must be a JSON object")
    return found


def _flag(parameters: dict[str, Any], key: str, *, default: bool) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise RowsError(f"the parameter {key!r} must be true or false; got {describe_value(found)}")
    return found
