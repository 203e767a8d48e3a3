"""The Open Inference Protocol, version 2: tensors to rows, answers to tensors; whatever carries them.

Source: https://github.com/open-inference/open-inference-protocol, specification/protocol. A cascade is a model with
one input, "rows", and an output a column of the answer. Its version is that of its policy.
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
from cascade.serving.bodies.wire import stacked
from cascade.serving.errors import BodyTooLarge, UnknownModel
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.request_id import note_request_id
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
    "encode_raw",
    "max_stage",
    "model_metadata",
    "output_tensors",
    "response_parameters",
    "server_metadata",
    "shown",
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
"""Datatype of every column that may be asked for."""

_RAW = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""How the numbers of a datatype lie in raw contents: little-endian, row by row, without gaps."""

_DATATYPES = {dtype.name: datatype for datatype, dtype in _RAW.items()} | {"text": TEXT}


@dataclass(frozen=True)
class Output:
    """An output that was asked for.

    Attributes:
        name: one of ``OUTPUTS``.
        binary: whether it comes as raw bytes.
    """

    name: str
    binary: bool = False


@dataclass(frozen=True, eq=False)
class Inference:
    """A request, read and checked.

    Attributes:
        rows: (n, *shape), as the configuration says.
        id: comes back with the answer; empty if there was none.
        timeout_s: seconds that the caller waits, if it said so.
        max_stage: name of the last stage that may look at the rows, if it said so.
        outputs: what was asked for; ``None`` for all that there is.
        binary: whether outputs that say nothing of it come as raw bytes.
    """

    rows: np.ndarray
    id: str = ""
    timeout_s: float | None = None
    max_stage: str | None = None
    outputs: tuple[Output, ...] | None = None
    binary: bool = False


@dataclass(frozen=True)
class Tensor:
    """An output, (n,).

    Attributes:
        name: of the column.
        datatype: as the protocol calls it.
        values: n plain values.
        binary: whether it goes out as raw bytes.
    """

    name: str
    datatype: str
    values: list[Any]
    binary: bool

    @property
    def shape(self) -> list[int]:
        """Of the values: [n]."""
        return [len(self.values)]


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "idk-cascade", "version": cascade.__version__, "extensions": ["binary_tensor_data"]}


def model_metadata(config: CascadeConfig, version: str) -> dict[str, Any]:
    """What the cascade takes and answers.

    Args:
        config: of the cascade.
        version: of the policy in force.
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
    """Says whether a model is served; returns the version of the policy in force.

    Args:
        service: has one cascade.
        name: of the model that is asked for.
        version: that is asked for, if any.

    Raises:
        UnknownModel: there is another cascade here, or another policy is in force.
    """
    if name != service.config.name:
        raise UnknownModel(f"there is no model {name[:60]!r}; {service.config.name!r} is served here")
    current = str(service.describe_policy()["version"])
    return _check_version(version, current)


async def answer(
    service: Service, inference: Inference, version: str | None, remaining_s: float | None = None
) -> dict[str, Any]:
    """The answer's columns.

    Args:
        service: answers.
        inference: the request.
        version: that was asked for, if any.
        remaining_s: seconds until the caller hangs up, if it will; the request's own time to wait may be shorter.

    Raises:
        UnknownModel: another policy came into force before the rows were taken.
    """
    limits = [limit for limit in (inference.timeout_s, remaining_s) if limit is not None]
    note_request_id(inference.id)
    overrides = RequestOverrides(min(limits, default=None), inference.max_stage)
    columns = await service.answer_rows(inference.rows, overrides)
    _check_version(version, columns["policy_version"])
    return columns


def check_tensor(name: Any, datatype: Any, shape: Any, config: CascadeConfig) -> tuple[int, ...]:
    """Checks what a request says of its only input.

    Args:
        name: must be "rows".
        datatype: must be that of the configuration.
        shape: must be (n, *shape), n >= 1.
        config: of the cascade.

    Returns:
        The shape.

    Raises:
        RowsError: one of them is not so.
        BodyTooLarge: more rows than a request may have.
    """
    if name != INPUT:
        raise RowsError(f"the input must have the name {INPUT!r}; got {shown(name)}")
    expected = _datatype(config.rows)
    if datatype != expected:
        raise RowsError(f"input {INPUT!r} must have the datatype {expected}; got {shown(datatype)}")
    sizes = tuple(shape) if isinstance(shape, list) else ()
    if not sizes or any(type(size) is not int for size in sizes) or sizes[1:] != config.rows.shape or sizes[0] < 1:
        wanted = ", ".join(["n", *map(str, config.rows.shape)])
        raise RowsError(f"input {INPUT!r} must have the shape [{wanted}], n at least 1; got {shown(shape)}")
    if sizes[0] > config.serving.max_request_rows:
        most = config.serving.max_request_rows
        raise BodyTooLarge(f"a request may have {most} rows; got {sizes[0]}; send them in several requests")
    return sizes


def decode_raw(content: bytes | memoryview, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from raw contents.

    Args:
        content: numbers in little-endian order, or texts in UTF-8 with 4 bytes of length before each.
        shape: of the tensor.
        expected: what a row is.

    Returns:
        (n, *shape) of the configuration's dtype.

    Raises:
        RowsError: the contents do not fit the shape, or are no such rows.
    """
    if expected.dtype == "text":
        return check_rows(_texts(content, shape[0]), expected)
    dtype = _RAW[_datatype(expected)]
    if len(content) != math.prod(shape) * dtype.itemsize:
        wanted = math.prod(shape) * dtype.itemsize
        raise RowsError(f"input {INPUT!r} of shape {list(shape)} must have {wanted} bytes; got {len(content)}")
    if dtype.kind == "b" and (np.frombuffer(content, np.uint8) > 1).any():
        raise RowsError(f"input {INPUT!r} must hold bytes of 0 and 1")
    # After a JSON header of any length, numbers need not lie where the processor wants them.
    return check_rows(np.require(np.frombuffer(content, dtype), requirements="A").reshape(shape), expected)


def decode_values(values: Any, shape: tuple[int, ...], expected: RowsConfig) -> np.ndarray:
    """Rows from a list of values: flat, or nested like the shape.

    Raises:
        RowsError: the values do not fit the shape, or are no such rows.
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
    rows = check_rows(stacked(given, size) if nested else np.asarray(stacked(given, size)).reshape(shape), expected)
    if rows.shape != shape:
        raise RowsError(f"input {INPUT!r} must have the shape {list(shape)}; its data has {list(rows.shape)}")
    return rows


def check_outputs(outputs: Sequence[Output], config: CascadeConfig) -> tuple[Output, ...] | None:
    """Checks which outputs a request asks for; ``None`` if it names none.

    Raises:
        RowsError: there is no such output, or it is asked for twice.
    """
    names = [output.name for output in outputs]
    known = [name for name in OUTPUTS if name != "label" or config.classes is not None]
    for name in names:
        if name not in known:
            raise RowsError(f"there is no output {shown(name)}; there are {', '.join(known)}")
        if names.count(name) > 1:
            raise RowsError(f"output {name!r} is asked for twice")
    return tuple(outputs) or None


def timeout_s(microseconds: Any) -> float | None:
    """Seconds, from the request parameter "timeout"; 0 and ``None`` set no limit.

    Raises:
        RowsError: not a whole number of at least 0.
    """
    if microseconds is None:
        return None
    if type(microseconds) is not int or microseconds < 0:
        raise RowsError(f"parameter 'timeout' must be whole microseconds, at least 0; got {shown(microseconds)}")
    return microseconds / 1e6 or None


def max_stage(name: Any) -> str | None:
    """The name of a stage, from the request parameter "max_stage".

    Raises:
        RowsError: not a text.
    """
    if name is None or isinstance(name, str):
        return name
    raise RowsError(f"parameter 'max_stage' must be the name of a stage; got {shown(name)}")


def output_tensors(inference: Inference, columns: dict[str, Any]) -> list[Tensor]:
    """The outputs that were asked for."""
    wanted = inference.outputs
    if wanted is None:
        wanted = tuple(Output(name, inference.binary) for name in OUTPUTS if name in columns)
    return [Tensor(output.name, OUTPUTS[output.name], columns[output.name], output.binary) for output in wanted]


def response_parameters(columns: dict[str, Any]) -> dict[str, Any]:
    """The version of the policy; for one row also what spares looking into tensors."""
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


def shown(value: Any) -> str:
    """What came, for a message: short, on one line, and safe for lists that are nested a thousand times."""
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
    # The few types that the protocol lacks, such as long double, travel as doubles.
    return _DATATYPES.get(rows.dtype if rows.dtype == "text" else rows.numpy_dtype.name, "FP64")


def _check_numbers(values: list[Any], depth: int) -> None:
    """Finds texts before NumPy does: it gives every number among them the room of the longest, gigabytes if need be."""
    leaves: Any = values
    for _ in range(depth - 1):
        leaves = itertools.chain.from_iterable(leaves)
    try:
        kinds = set(map(type, leaves))
    except TypeError as error:
        raise RowsError(f"input {INPUT!r} must hold lists of one depth, {depth}") from error
    if not kinds <= {int, float, bool}:
        raise RowsError(f"input {INPUT!r} must hold numbers, all at the same depth")


def _texts(content: bytes | memoryview, n: int) -> list[str]:
    texts, start = [], 0
    for _ in range(n):
        end = start + 4 + int.from_bytes(content[start : start + 4], "little")
        if start + 4 > len(content) or end > len(content):
            raise RowsError(f"input {INPUT!r} must hold {n} texts, each after 4 bytes of its length; bytes are missing")
        texts.append(bytes(content[start + 4 : end]))
        start = end
    if start != len(content):
        raise RowsError(f"input {INPUT!r} must hold {n} texts; {len(content) - start} bytes are left over")
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError as error:
        raise RowsError(f"the texts of input {INPUT!r} must be UTF-8: {error}") from error
