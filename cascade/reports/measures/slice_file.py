"""The file of the user's slices."""

from pathlib import Path

import numpy as np

from cascade.errors import DataError
from cascade.files.npz import load_arrays

__all__ = ["load_slices"]


def load_slices(path: Path | str, rows: int) -> dict[str, np.ndarray]:
    """Reads an ``.npz`` file with an array for each kind of slice, such as ``camera`` or ``hour``.

    Args:
        path: of the file.
        rows: n, of the score table that the arrays belong to.

    Returns:
        Arrays (n,) of int, bool or str, in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or an array is unsuitable; the message lists every problem.
    """
    try:
        arrays = load_arrays(path, None, DataError)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; it is an .npz file with one array per kind of slice") from error
    problems = [f"it must hold at least one array of {rows} values"] if not arrays else []
    for name, array in arrays.items():
        if array.shape != (rows,):
            problems.append(f"{name} must be ({rows},), one value per row of the score table; got shape {array.shape}")
        elif array.dtype.kind not in "biuU":
            problems.append(f"{name} must be integers or texts; got {array.dtype} (cut numbers into bins first)")
    if problems:
        raise DataError("\n  ".join([f"{path} cannot be used for slices:", *problems]))
    return arrays
