"""The ``.npy`` format, for untrusted files: the header is checked before memory is allocated.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import io
import math
from typing import IO, Any

import numpy as np

from cascade.errors import InputError

__all__ = ["check_npy", "read_npy"]

MAX_HEADER_BYTES = 4096
MOST_AXES = 32
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
KINDS = "biufcUSmM"
"""Kinds of plain values: no objects, no structured types."""


def read_npy(content: bytes, source: str, error_type: type[InputError]) -> np.ndarray:
    """Reads an array.

    Args:
        content: a whole file.
        source: its name in messages.
        error_type: raised if the array cannot be used.

    Returns:
        The array; it may share the memory of ``content``, and is read-only then.

    Raises:
        InputError: of ``error_type``: the header is broken or does not match the number of bytes after it, or the
            values are not plain.
    """
    file = io.BytesIO(content)
    shape, fortran_order, dtype = check_npy(file, len(content), source, error_type)
    array = np.frombuffer(content, dtype, math.prod(shape), file.tell()) if math.prod(shape) else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")


def check_npy(
    file: IO[bytes], size: int, source: str, error_type: type[InputError]
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads and checks a header; the file is then positioned at the values.

    Args:
        file: at its start.
        size: bytes of the whole file.
        source: its name in messages.
        error_type: raised if the array cannot be used.

    Returns:
        Shape, whether the order is Fortran's, dtype.

    Raises:
        InputError: as for :func:`read_npy`.
    """
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran_order, dtype = HEADERS[version](file, max_header_size=MAX_HEADER_BYTES)
        sizes = tuple(map(int, shape))
    except Exception as error:  # the header is a Python literal, and parsing it can raise almost anything
        raise error_type(f"{source} is not an .npy array of plain values: its header cannot be read") from error
    if dtype.kind not in KINDS or not dtype.itemsize or dtype.hasobject or dtype.subdtype is not None:
        raise error_type(f"{source} is not an .npy array of plain values: its dtype is {str(dtype)[:60]!r}")
    expected, given = math.prod(sizes) * dtype.itemsize, size - file.tell()
    if len(sizes) > MOST_AXES or min(sizes, default=0) < 0 or expected != given:
        raise error_type(
            f"{source} is not a whole .npy array: its header declares {_product(sizes)} values of {dtype}, and {given} "
            "bytes follow it"
        )
    return sizes, bool(fortran_order), dtype


def _product(sizes: tuple[int, ...]) -> str:
    text = " x ".join(map(str, sizes[:8]))
    return text[:60] or "1"
