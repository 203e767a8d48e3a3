"""``.npz`` files from any source."""

import difflib
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from cascade.errors import InputError
from cascade.files.npy import check_npy
from cascade.files.zip_files import check_zip

__all__ = ["load_arrays"]

NPY_MAGIC = b"\x93NUMPY"
KINDS = (
    ("a score table", {"prediction", "confidence", "cost", "stage"}, "'cascade collect' makes one from rows"),
    ("rows", {"rows"}, "they are the file that --rows of 'cascade collect' takes"),
    ("rows", {"rows_utf8", "rows_offsets"}, "they are the file that --rows of 'cascade collect' takes"),
)
"""Name, arrays and origin of each kind of file, for messages about a file of another kind."""
WEIGHTS = {"sample_weight", "sample_weights", "weight", "weights"}


def load_arrays(path: Path | str, names: Sequence[str] | None, error_type: type[InputError]) -> dict[str, np.ndarray]:
    """Reads plain arrays, without running any code from the file.

    Args:
        path: an ``.npz`` file.
        names: allowed names of arrays; ``None`` for any.
        error_type: raised if the file cannot be used.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: of ``error_type``: it is not an ``.npz`` file, is damaged, or holds an array with another name or a
            pickled object.
    """
    try:
        if not zipfile.is_zipfile(path):
            with Path(path).open("rb") as source:
                is_archive = source.read(len(NPY_MAGIC)) != NPY_MAGIC
            if is_archive:
                raise zipfile.BadZipFile("it is not a zip archive")
            raise error_type(f"{path} is a single array, not an .npz file of several")
        check_zip(path, error_type)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            unknown = [] if names is None else [name for name in members if name not in names]
            if unknown:
                raise error_type(_other_kind(path, members, names or ()) or _refusal(path, unknown, names or ()))
            repeated = len(archive.infolist()) - len(members)
            if repeated:
                raise error_type(f"{path} holds {repeated} arrays with duplicate names; each needs its own")
            return {name: _array(archive, member, path, error_type) for name, member in members.items()}
    except (FileNotFoundError, InputError):
        raise
    except Exception as error:  # a damaged archive can raise anything: zipfile, zlib, struct, memory, ...
        raise error_type(f"{path} is not a readable .npz file of plain arrays: {error}") from error


def _array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path | str, error_type: type[InputError]
) -> np.ndarray:
    """One array; its header is checked first, and must declare as many bytes as the archive."""
    source = f"{member.filename!r} of {path}"
    with archive.open(member) as file:
        if not member.filename.endswith(".npy"):
            raise error_type(f"{path} holds {member.filename!r}, which is not an array")
        check_npy(file, member.file_size, source, error_type)
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _other_kind(path: Path | str, members: Collection[str], names: Sequence[str]) -> str | None:
    """The message for a file of another kind; ``None`` for any other file."""
    found = next((kind for kind, arrays, _ in KINDS if arrays <= set(members)), None)
    wanted = next(((kind, origin) for kind, arrays, origin in KINDS if arrays <= set(names)), None)
    if found is None or wanted is None or found == wanted[0]:
        return None
    return f"{path} holds {found}, where {wanted[0]} must be; {wanted[1]}"


def _refusal(path: Path | str, unknown: Sequence[str], names: Sequence[str]) -> str:
    for name in unknown:
        if name in WEIGHTS:
            return (
                f"{path} holds {name!r}, but weights of rows are not supported: the tests need rows of equal weight. "
                "Keep each row with a probability proportional to its weight, and leave the array out "
                "(docs/tune.md, 'Weighted rows', has the code)"
            )
    near = {name: difflib.get_close_matches(name, names, 1) for name in unknown}
    listed = ", ".join(f"{name!r}" + (f" (did you mean {near[name][0]!r}?)" if near[name] else "") for name in unknown)
    return f"{path} holds unknown arrays: {listed}; rename or remove them. The known ones are {', '.join(names)}"
