"""The Open Inference Protocol, version 2: tensors to rows, answers to tensors, for HTTP and gRPC.

Source: https://github.com/open-inference/open-inference-protocol, specification/protocol. A cascade is a model with
one input, "rows", and one output per column of the answers. Its version is its policy's.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cascade
from cascade.config import CascadeConfig, RowsConfig
from cascade.errors import RowsError
from cascade.rows.checks import check_rows
from cascade.serving.bodies.wire import stack_rows
from cascade.serving.errors import BodyTooLarge, UnknownModel
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.request_id import set_request_id
from cascade.serving.service import Service

__all__ = [
    "INPUT",
    "Inference",
    "Output",
    "Tensor",
    "answer",
    "check_model",
    "check_outputs",
    "check_tensor",
    "decode_raw",
    "decode_values",
    "describe_value",
    "encode_raw",
    "max_stage",
    "model_metadata",
    "output_tensors",
    "response_parameters",
    "server_metadata",
    "timeout_s",
]

INPUT = "rows"
TEXT = "BYTES"
OUTPUTS = {
    "answer": "INT64",
    "stage": TEXT,
    "confidence": "FP64",
    "cost": "FP64",
    "degraded": "BOOL",
    "abstained": "BOOL",
    "label": TEXT,
}
"""Datatype of each output."""

_RAW = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""NumPy dtype of each datatype in raw contents: little-endian, in C order."""

_DATATYPES = {dtype.name: datatype for datatype, dtype in _RAW.items()} | {"text": TEXT}


@dataclass(frozen=True)
class Output:
    """A requested output.

    Attributes:
        name: one of ``OUTPUTS``.
        binary: whether it is sent as raw bytes.
    """

    name: str
    binary: bool = False


@dataclass(frozen=True, eq=False)
class Inference:
    """A checked request.

    Attributes:
        rows: (n, *shape), of the configured shape and dtype.
        id: the caller's id, returned with the response; "" for none.
        timeout_s: seconds that the caller waits; ``None`` for no limit of its own.
        max_stage: name of the last stage that may run; ``None`` for all stages.
        outputs: the requested outputs; ``None`` for all.
        binary: whether outputs are sent as raw bytes unless requested otherwise.
    """

    rows: np.ndarray
    id: str = ""
    timeout_s: float | None = None
    max_stage: str | None = None
    outputs: tuple[Output, ...] | None = None
    binary: bool = False


@dataclass(frozen=True)
class Tensor:
    """An output of shape (n,).

    Attributes:
        name: name of the column.
        datatype: of the protocol, such as "FP64".
        values: n plain values.
        binary: whether it is sent as raw bytes.
    """

    name: str
    datatype: str
    values: list[Any]
    binary: bool

    @property
    def shape(self) -> list[int]:
        """The shape of the values, [n]."""
        return [len(self.values)]


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "idk-cascade", "version": cascade.__version__, "extensions": ["binary_tensor_data"]}


def model_metadata(config: CascadeConfig, version: str) -> dict[str, Any]:
    """Input and outputs of the cascade.

    Args:
        config: of the cascade.
        version: version of the policy in force.
    """
    outputs = [name for name in OUTPUTS if name != "label" or config.classes is not None]
    return {
        "name": config.name,
        "versions": [version],
        "platform": "idk-cascade",
        "inputs": [{"name": INPUT, "datatype": _datatype(config.rows), "shape": [-1, *config.rows.shape]}],
        "outputs": [{"name": name, "datatype": OUTPUTS[name], "shape": [-1]} for name in outputs],
    }


def check_model(service: Service, name: str, version: str | None = None) -> str:
    """Checks that a model is served, and returns the version of the policy in force.

    Args:
        service: of one cascade.
        name: requested model.
        version: requested version, if any.

    Raises:
        UnknownModel: the served cascade has another name, or another policy is in force.
    """
    if name != service.config.name:
        raise UnknownModel(f"there is no model {name[:60]!r}; the served model is {service.config.name!r}")
    current = str(service.describe_policy()["version"])
    return _check_version(version, current)


async def answer(
    service: Service, inference: Inference, version: str | None, remaining_s: float | None = None
) -> dict[str, Any]:
    """Answers a request; returns the columns of :meth:`Service.answer_rows`.

    Args:
        service: answers the rows.
        inference: the request.
        version: requested version, if any.
        remaining_s: seconds until the call's own deadline, if it has one; ``inference.timeout_s`` may be shorter.

    Raises:
        UnknownModel: another policy came into force before the rows were queued.
    """
    limits = [limit for limit in (inference.timeout_s, remaining_s) if limit is not None]
    set_request_id(inference.id)
    overrides = RequestOverrides(min(limits, default=None), inference.max_stage)
    columns = await service.answer_rows(inference.rows, overrides)
    _check_version(version, columns["policy_version"])
    return columns


def check_tensor(name: Any, datatype: Any, shape: Any, config: CascadeConfig) -> tuple[int, ...]:
    """Checks the description of a request's only input.

    Args:
        name: must be "rows".
        datatype: must be that of the configuration.
        shape: must be (n, *shape), n >= 1.
        config: of the cascade.

    Returns:
        The shape.

    Raises:
        RowsError: one of them is different.
        BodyTooLarge: n exceeds ``serving.max_request_rows``.
    """
    if name != INPUT:
        raise RowsError(f"the name of the input must be {INPUT!r}; got {describe_value(name)}")
    expected = _datatype(config.rows)
    if datatype != expected:
        raise RowsError(f"input {INPUT!r} must have the datatype {expected}; got {describe_value(datatype)}")
    sizes = tuple(shape) if isinstance(shape, list) else ()
    if not sizes or any(type(size) is not int for size in sizes) or sizes[1:] != config.rows.shape or sizes[0] < 1:
        wanted = ", ".join(["n", *map(str, config.rows.shape)])
        raise RowsError(f"input {INPUT!r} must have the shape [{wanted}], n at least 1; got {describe_value(shape)}")
    if sizes[0] > config.serving.max_request_rows:
        most = config.serving.max_request_rows
        raise BodyTooLarge(f"a request may have {most} rows; got {sizes[0]}; split it into several requests")
    return sizes


def decode_raw(content: bytes | memoryview, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from raw contents.

    Args:
        content: little-endian numbers; or texts in UTF-8, each after its length in 4 bytes.
        shape: of the tensor, (n, *shape of a row).
        expected: the configured shape and dtype of a row.

    Returns:
        (n, *shape), of the configured dtype.

    Raises:
        RowsError: the contents do not match the shape, or the rows are invalid.
    """
    if expected.dtype == "text":
        return check_rows(_texts(content, shape[0]), expected)
    dtype = _RAW[_datatype(expected)]
    if len(content) != math.prod(shape) * dtype.itemsize:
        wanted = math.prod(shape) * dtype.itemsize
        raise RowsError(f"input {INPUT!r} of shape {list(shape)} must have {wanted} bytes; got {len(content)}")
    if dtype.kind == "b" and (np.frombuffer(content, np.uint8) > 1).any():
        raise RowsError(f"each byte of input {INPUT!r} must be 0 or 1")
    # The JSON before the numbers can have any length, so they may be unaligned.
    return check_rows(np.require(np.frombuffer(content, dtype), requirements="A").reshape(shape), expected)


def decode_values(values: Any, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from a list of values, flat or nested like the shape.

    Raises:
        RowsError: the values do not match the shape, or the rows are invalid.
    """
    if not isinstance(values, list):
        raise RowsError(f"the data of input {INPUT!r} must be a list")
    nested = bool(values) and isinstance(values[0], list)
    if not nested and len(values) != math.prod(shape):
        raise RowsError(
            f"input {INPUT!r} of shape {list(shape)} must have {math.prod(shape)} values; got {len(values)}"
        )
    if expected.dtype == "text":
        return check_rows(values, expected)
    _check_numbers(values, len(shape) if nested else 1)
    size = math.prod(shape[1:])
    given = values if nested else [values[start : start + size] for start in range(0, len(values), size)]
    rows = check_rows(
        stack_rows(given, size) if nested else np.asarray(stack_rows(given, size)).reshape(shape), expected
    )
    if rows.shape != shape:
        raise RowsError(f"input {INPUT!r} must have the shape {list(shape)}; its data has {list(rows.shape)}")
    return rows


def check_outputs(outputs: Sequence[Output], config: CascadeConfig) -> tuple[Output, ...] | None:
    """Checks the requested outputs; returns ``None`` if there are none.

    Raises:
        RowsError: an output does not exist, or is requested twice.
    """
    names = [output.name for output in outputs]
    known = [name for name in OUTPUTS if name != "label" or config.classes is not None]
    for name in names:
        if name not in known:
            raise RowsError(f"there is no output {describe_value(name)}; there are {', '.join(known)}")
        if names.count(name) > 1:
            raise RowsError(f"output {name!r} is requested twice")
    return tuple(outputs) or None


def timeout_s(microseconds: Any) -> float | None:
    """Seconds from the request parameter "timeout", in microseconds; ``None`` for no limit (0 or no parameter).

    Raises:
        RowsError: the parameter is not a whole number of at least 0.
    """
    if microseconds is None:
        return None
    if type(microseconds) is not int or microseconds < 0:
        raise RowsError(
            f"parameter 'timeout' must be whole microseconds, at least 0; got {describe_value(microseconds)}"
        )
    return microseconds / 1e6 or None


def max_stage(name: Any) -> str | None:
    """The name of a stage from the request parameter "max_stage".

    Raises:
        RowsError: the parameter is not a string.
    """
    if name is None or isinstance(name, str):
        return name
    raise RowsError(f"parameter 'max_stage' must be the name of a stage; got {describe_value(name)}")


def output_tensors(inference: Inference, columns: dict[str, Any]) -> list[Tensor]:
    """The requested outputs."""
    outputs = inference.outputs
    if outputs is None:
        outputs = tuple(Output(name, inference.binary) for name in OUTPUTS if name in columns)
    return [Tensor(output.name, OUTPUTS[output.name], columns[output.name], output.binary) for output in outputs]


def response_parameters(columns: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a response: the policy's version; for one row also its stage, confidence and abstention."""
    parameters = {"policy_version": columns["policy_version"]}
    if len(columns["answer"]) == 1:
        parameters |= {name: columns[name][0] for name in ("stage", "confidence", "abstained")}
    return parameters


def encode_raw(tensor: Tensor) -> bytes:
    """A tensor's raw contents."""
    if tensor.datatype != TEXT:
        return np.array(tensor.values, _RAW[tensor.datatype]).tobytes()
    texts = [text.encode() for text in tensor.values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def describe_value(value: Any) -> str:
    """A value for an error message: short, on one line, and safe for deeply nested lists."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, list) and len(value) <= 8 and all(isinstance(each, int | float) for each in value):
        return repr(value)
    return repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def _check_version(version: str | None, current: str) -> str:
    if version is not None and version != current:
        raise UnknownModel(f"there is no version {version[:60]!r}; {current!r} is in force")
    return current


def _datatype(rows: RowsConfig) -> str:
    # Types that the protocol lacks, such as long double, are sent as doubles.
    return _DATATYPES.get(rows.dtype if rows.dtype == "text" else rows.numpy_dtype.name, "FP64")


def _check_numbers(values: list[Any], depth: int) -> None:
    """Refuses texts: with one among numbers, NumPy would store each number as a text of that length."""
    leaves: Any = values
    for _ in range(depth - 1):
        leaves = itertools.chain.from_iterable(leaves)
    try:
        kinds = set(map(type, leaves))
    except TypeError as error:
        raise RowsError(f"the lists of input {INPUT!r} must all have the depth {depth}") from error
    if not kinds <= {int, float, bool}:
        raise RowsError(f"input {INPUT!r} must have numbers only, all at the same depth")


def _texts(content: bytes | memoryview, n: int) -> list[str]:
    texts, start = [], 0
    for _ in range(n):
        end = start + 4 + int.from_bytes(content[start : start + 4], "little")
        if start + 4 > len(content) or end > len(content):
            raise RowsError(f"input {INPUT!r} must have {n} texts, each after its length in 4 bytes; bytes are missing")
        texts.append(bytes(content[start + 4 : end]))
        start = end
    if start != len(content):
        raise RowsError(f"input {INPUT!r} must have {n} texts; {len(content) - start} bytes follow them")
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError as error:
        raise RowsError(f"the texts of input {INPUT!r} must be UTF-8: {error}") from error
