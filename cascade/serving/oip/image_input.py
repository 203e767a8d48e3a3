"""The input "image" of the Open Inference Protocol: one image file as BYTES, answered with boxes.

A cascade with a section ``detection`` takes it instead of its rows. In raw contents the file follows its length in 4
bytes, as every text does, and in typed contents of gRPC as it is; in JSON it is base64.
"""

import base64
from typing import Any

from cascade.config import CascadeConfig
from cascade.errors import RowsError
from cascade.serving.oip.tensors import describe_value

__all__ = ["BOX_OUTPUTS", "BOX_SIZES", "IMAGE_INPUT", "box_columns", "check_image_tensor", "from_base64", "from_raw"]

IMAGE_INPUT = "image"
BOX_OUTPUTS = {"boxes": "FP64", "confidence": "FP64", "label": "BYTES"}
"""Datatype of each output for k boxes."""
BOX_SIZES = 4
"""Values of a box: x, y, width, height."""


def check_image_tensor(datatype: Any, shape: Any, config: CascadeConfig) -> None:
    """Checks the description of the input.

    Raises:
        RowsError: the cascade has no section ``detection``, or the tensor is not one element of BYTES.
    """
    if config.detection is None:
        raise RowsError(f"this cascade takes no input {IMAGE_INPUT!r}; send 'rows'")
    if datatype != "BYTES" or shape != [1]:
        raise RowsError(
            f"input {IMAGE_INPUT!r} must have the datatype BYTES and the shape [1], one file; got "
            f"{describe_value(datatype)} of shape {describe_value(shape)}"
        )


def from_raw(content: bytes | memoryview) -> bytes:
    """The file in raw contents.

    Raises:
        RowsError: its length does not match.
    """
    if len(content) < 4 or int.from_bytes(content[:4], "little") != len(content) - 4:
        raise RowsError(f"input {IMAGE_INPUT!r} must have one file after its length in 4 bytes")
    return bytes(content[4:])


def from_base64(values: Any) -> bytes:
    """The file in a JSON list of one text.

    Raises:
        RowsError: the list is not one text in base64.
    """
    if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str):
        try:
            return base64.b64decode(values[0], validate=True)
        except ValueError:  # not base64, or not ASCII
            pass
    raise RowsError(f"the data of input {IMAGE_INPUT!r} must be a list of one text, the file in base64")


def box_columns(found: dict[str, Any]) -> dict[str, Any]:
    """The outputs of k boxes.

    Args:
        found: as :meth:`cascade.serving.service.Service.detect` returns it.

    Returns:
        "boxes" (k lists of 4), "confidence", "label", and "policy_version".
    """
    boxes = found["boxes"]
    return {
        "boxes": [each["box"] for each in boxes],
        "confidence": [each["confidence"] for each in boxes],
        "label": [each["label"] for each in boxes],
        "policy_version": found["policy_version"],
    }
