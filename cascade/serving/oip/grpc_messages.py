"""Messages of the Open Inference Protocol over gRPC: decoding requests, encoding responses."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.oip.image_input import IMAGE_INPUT, check_image_tensor, from_raw
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
from cascade.serving.oip.protobuf import new_message
from cascade.serving.oip.tensors import InputTensor, encode_raw

__all__ = ["decode_request", "encode_response"]

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Field with the values of each datatype, unless they are sent raw; FP16 is always sent raw."""

_PARAMETER = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def decode_request(request: Any, config: CascadeConfig) -> Inference:
    """Reads a ``ModelInferRequest``.

    Raises:
        RowsError: the request is invalid for this cascade.
        BodyTooLarge: the request has too many rows.
    """
    timeout, last = (request.parameters.get(name) for name in ("timeout", "max_stage"))
    rows = _rows(request, config)
    requested = [Output(output.name, binary=True) for output in request.outputs]
    return Inference(
        rows,
        request.id,
        timeout_s(None if timeout is None else _value(timeout)),
        max_stage(None if last is None else _value(last)),
        check_outputs(requested, config, has_image=isinstance(rows, bytes)),
        binary=True,
    )


def encode_response(inference: Inference, columns: dict[str, Any], config: CascadeConfig) -> Any:
    """Writes the ``ModelInferResponse``, with all outputs as raw contents."""
    tensors = output_tensors(inference, columns)
    return new_message(
        "ModelInferResponse",
        model_name=config.name,
        model_version=columns["policy_version"],
        id=inference.id,
        parameters=_parameters(response_parameters(columns)),
        outputs=[{"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape} for tensor in tensors],
        raw_output_contents=[encode_raw(tensor) for tensor in tensors],
    )


def _rows(request: Any, config: CascadeConfig) -> np.ndarray | bytes:
    """The rows of a request, or the bytes of its image."""
    inputs, raw = request.inputs, request.raw_input_contents
    if not inputs:
        return decode_inputs((), config)
    if len(inputs) == 1 and inputs[0].name == IMAGE_INPUT and config.rows.columns is None:
        return _image(inputs[0], raw, config)
    if raw and (len(raw) != len(inputs) or any(tensor.HasField("contents") for tensor in inputs)):
        raise RowsError("raw contents must be given once per input, and without typed contents")
    contents = raw or map(_typed, inputs)
    return decode_inputs(
        [
            InputTensor(tensor.name, tensor.datatype, list(tensor.shape), content)
            for tensor, content in zip(inputs, contents, strict=True)
        ],
        config,
    )


def _typed(tensor: Any) -> list[Any]:
    """The typed contents of an input."""
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise RowsError(f"input {tensor.name!r} of datatype {tensor.datatype!r} must be sent as raw contents")
    contents, shape = getattr(tensor.contents, field), list(tensor.shape)
    if len(contents) != math.prod(shape):  # checked before the values become Python objects
        raise RowsError(
            f"input {tensor.name!r} of shape {shape} must have {math.prod(shape)} values; got {len(contents)}"
        )
    return [_text(value, tensor.name) for value in contents] if field == "bytes_contents" else list(contents)


def _image(tensor: Any, raw: Any, config: CascadeConfig) -> bytes:
    check_image_tensor(tensor.datatype, list(tensor.shape), config)
    typed = list(tensor.contents.bytes_contents)
    if len(raw) + len(typed) != 1:
        raise RowsError(f"input {IMAGE_INPUT!r} must have one file, in raw or in typed contents")
    return from_raw(raw[0]) if raw else bytes(typed[0])


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RowsError(f"the texts of input {name!r} must be UTF-8: {error}") from error


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: new_message("InferParameter", **{_PARAMETER[type(value)]: value}) for name, value in values.items()}
