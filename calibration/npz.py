"""Reading of ``.npz`` files that anyone may have written."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from cascade.errors import InputError

__all__ = ["load_arrays"]


def load_arrays(path: Path | str, names: Collection[str] | None, error_type: type[InputError]) -> dict[str, np.ndarray]:
    """Reads plain arrays; nothing in the file is ever executed.

    Args:
        path: an ``.npz`` file.
        names: arrays that are read where they are there, others are left alone; ``None`` for all.
        error_type: raised when the file cannot be used.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: of ``error_type``: it is no ``.npz`` file, is damaged, or one of the arrays is a pickled object.
    """
    try:
        with Path(path).open("rb") as source:
            file = np.load(source, allow_pickle=False)
            if not isinstance(file, np.ndarray):
                return {name: file[name] for name in file.files if names is None or name in names}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive fails in many ways: zipfile, zlib, struct, memory, ...
        raise error_type(f"{path} is not a readable .npz file of plain arrays: {error}") from error
    raise error_type(f"{path} is a single array, not an .npz file of several")
