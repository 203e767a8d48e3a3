"""Requests of the Open Inference Protocol, version 2, for HTTP and gRPC: checked, answered, and described.

Source: https://github.com/open-inference/open-inference-protocol, specification/protocol. A cascade is a model with
one input, "rows", and one output per column of the answers. Its version is its policy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cascade
from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.errors import UnknownModel
from cascade.serving.oip.column_tensors import column_inputs
from cascade.serving.oip.image_input import BOX_OUTPUTS, BOX_SIZES, IMAGE_INPUT, box_columns
from cascade.serving.oip.tensors import INPUT, OUTPUTS, Tensor, datatype_of, describe_value
from cascade.serving.policy.request_overrides import RequestOverrides
from cascade.serving.request_id import set_request_id
from cascade.serving.service import Service

__all__ = [
    "Inference",
    "Output",
    "answer",
    "check_model",
    "check_outputs",
    "max_stage",
    "model_metadata",
    "output_tensors",
    "response_parameters",
    "server_metadata",
    "timeout_s",
]

_DATATYPES = OUTPUTS | BOX_OUTPUTS


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
        rows: (n, *shape), of the configured shape and dtype; or the bytes of an image file.
        id: the caller's id, returned with the response; "" for none.
        timeout_s: seconds that the caller waits; ``None`` for no limit of its own.
        max_stage: name of the last stage that may run; ``None`` for all stages.
        outputs: the requested outputs; ``None`` for all.
        binary: whether outputs are sent as raw bytes unless requested otherwise.
    """

    rows: np.ndarray | bytes
    id: str = ""
    timeout_s: float | None = None
    max_stage: str | None = None
    outputs: tuple[Output, ...] | None = None
    binary: bool = False


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "idk-cascade", "version": cascade.__version__, "extensions": ["binary_tensor_data"]}


def model_metadata(config: CascadeConfig, version: str) -> dict[str, Any]:
    """Input and outputs of the cascade.

    Args:
        config: of the cascade.
        version: version of the policy in force.
    """
    if config.rows.columns is None:
        inputs = [{"name": INPUT, "datatype": datatype_of(config.rows), "shape": [-1, *config.rows.shape]}]
    else:
        inputs = column_inputs(config.rows.columns)
    outputs = [{"name": name, "datatype": OUTPUTS[name], "shape": [-1]} for name in _outputs(config, has_image=False)]
    if config.detection is not None:
        inputs.append({"name": IMAGE_INPUT, "datatype": "BYTES", "shape": [1]})
        outputs.append({"name": "boxes", "datatype": BOX_OUTPUTS["boxes"], "shape": [-1, BOX_SIZES]})
    return {
        "name": config.name,
        "versions": [version],
        "platform": "idk-cascade",
        "inputs": inputs,
        "outputs": outputs,
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
    if isinstance(inference.rows, bytes):
        columns = box_columns(await service.detect(inference.rows, overrides))
    else:
        columns = await service.answer_rows(inference.rows, overrides)
    _check_version(version, columns["policy_version"])
    return columns


def check_outputs(
    outputs: Sequence[Output], config: CascadeConfig, *, has_image: bool = False
) -> tuple[Output, ...] | None:
    """Checks the requested outputs; returns ``None`` if there are none.

    Args:
        outputs: requested.
        config: of the cascade.
        has_image: whether they are the boxes of an image.

    Raises:
        RowsError: an output does not exist, or is requested twice.
    """
    names = [output.name for output in outputs]
    known = _outputs(config, has_image=has_image)
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
        names = BOX_OUTPUTS if "boxes" in columns else OUTPUTS
        outputs = tuple(Output(name, inference.binary) for name in names if name in columns)
    return [
        Tensor(
            output.name,
            _DATATYPES[output.name],
            columns[output.name],
            output.binary,
            BOX_SIZES if output.name == "boxes" else None,
        )
        for output in outputs
    ]


def response_parameters(columns: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a response: the policy's version; for one row also its stage, confidence and abstention."""
    parameters = {"policy_version": columns["policy_version"]}
    if len(columns.get("answer", ())) == 1:
        parameters |= {name: columns[name][0] for name in ("stage", "confidence", "abstained")}
    return parameters


def _outputs(config: CascadeConfig, *, has_image: bool) -> list[str]:
    """Names of the outputs for rows, or for an image."""
    if has_image:
        return list(BOX_OUTPUTS)
    return [name for name in OUTPUTS if name != "label" or config.classes is not None]


def _check_version(version: str | None, current: str) -> str:
    if version is not None and version != current:
        raise UnknownModel(f"there is no version {version[:60]!r}; {current!r} is in force")
    return current
