"""Reading of ``.npz`` files that anyone may have written."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade.errors import InputError

__all__ = ["load_arrays"]

WEIGHTS = {"sample_weight", "sample_weights", "weight", "weights"}


def load_arrays(path: Path | str, names: Sequence[str] | None, error_type: type[InputError]) -> dict[str, np.ndarray]:
    """Reads plain arrays; nothing in the file is ever executed.

    Args:
        path: an ``.npz`` file.
        names: of all arrays that may be in it; ``None`` for any.
        error_type: raised when the file cannot be used.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: of ``error_type``: it is no ``.npz`` file, is damaged, holds an array of another name, or one of the
            arrays is a pickled object.
    """
    try:
        with Path(path).open("rb") as source:
            file = np.load(source, allow_pickle=False)
            is_archive = not isinstance(file, np.ndarray)
            unknown = [name for name in file.files if name not in names] if is_archive and names is not None else []
            arrays = {name: file[name] for name in file.files} if is_archive and not unknown else {}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive fails in many ways: zipfile, zlib, struct, memory, ...
        raise error_type(f"{path} is not a readable .npz file of plain arrays: {error}") from error
    if not is_archive:
        raise error_type(f"{path} is a single array, not an .npz file of several")
    if unknown and names is not None:
        raise error_type(_refusal(path, unknown, names))
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise error_type(f"{path} holds {', '.join(map(repr, others))}, which are no arrays")
    return arrays


def _refusal(path: Path | str, unknown: Sequence[str], names: Sequence[str]) -> str:
    for name in unknown:
        if name in WEIGHTS:
            return (
                f"{path} holds {name!r}, but weights of rows are not supported: every test here is for rows that count "
                "alike. Keep each row with a probability in proportion to its weight, and leave the array out "
                "(docs/tune.md, 'Weighted rows', has the lines)"
            )
    near = {name: difflib.get_close_matches(name, names, 1) for name in unknown}
    listed = ", ".join(f"{name!r}" + (f" (did you mean {near[name][0]!r}?)" if near[name] else "") for name in unknown)
    return f"{path} holds unknown arrays: {listed}; rename or remove them. The known ones are {', '.join(names)}"
