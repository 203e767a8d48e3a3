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
from cascade.serving.oip.protobuf import new_message
from cascade.serving.oip.tensors import INPUT, check_tensor, decode_raw, decode_values, encode_raw

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
    if len(request.inputs) != 1:
        raise RowsError(f"there must be one input, {INPUT!r}; got {len(request.inputs)}")
    timeout, last = (request.parameters.get(name) for name in ("timeout", "max_stage"))
    rows = _rows(request.inputs[0], request.raw_input_contents, config)
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


def _rows(tensor: Any, raw: Any, config: CascadeConfig) -> np.ndarray | bytes:
    """The rows of a request, or the bytes of its image."""
    if tensor.name == IMAGE_INPUT:
        return _image(tensor, raw, config)
    shape = check_tensor(tensor.name, tensor.datatype, list(tensor.shape), config)
    if raw:
        if len(raw) != 1 or tensor.HasField("contents"):
            raise RowsError("raw contents must be given once per input, and without typed contents")
        return decode_raw(raw[0], shape, config.rows)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise RowsError(f"input {INPUT!r} of datatype {tensor.datatype} must be sent as raw contents")
    contents = getattr(tensor.contents, field)
    if len(contents) != math.prod(shape):  # checked before the values become Python objects
        raise RowsError(
            f"input {INPUT!r} of shape {list(shape)} must have {math.prod(shape)} values; got {len(contents)}"
        )
    values = list(contents)
    if tensor.datatype == "BYTES":
        values = [_text(value) for value in values]
    return decode_values(values, shape, config.rows)


def _image(tensor: Any, raw: Any, config: CascadeConfig) -> bytes:
    check_image_tensor(tensor.datatype, list(tensor.shape), config)
    typed = list(tensor.contents.bytes_contents)
    if len(raw) + len(typed) != 1:
        raise RowsError(f"input {IMAGE_INPUT!r} must have one file, in raw or in typed contents")
    return from_raw(raw[0]) if raw else bytes(typed[0])


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RowsError(f"the texts of input {INPUT!r} must be UTF-8: {error}") from error


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: new_message("InferParameter", **{_PARAMETER[type(value)]: value}) for name, value in values.items()}
