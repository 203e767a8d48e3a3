"""Files of results: written as a whole, and never in place of something that is not a file."""

import os
from contextlib import suppress
from pathlib import Path

from cascade.errors import InputError

__all__ = ["check_output", "write_whole"]


def check_output(path: Path | str) -> Path:
    """Refuses a path that a new file must not replace.

    Args:
        path: to write to later.

    Returns:
        The path.

    Raises:
        InputError: it is a folder, a device or a symbolic link, or its folder does not exist.
    """
    path = Path(path)
    if path.is_symlink():
        raise InputError(f"{path} is a symbolic link; give the path of a file")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device, a socket or a pipe; give the path of a file")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    return path


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Writes a file by renaming a complete one: an older file stays until the new one is whole.

    Args:
        path: of the file.
        content: texts are written as UTF-8.

    Raises:
        InputError: see :func:`check_output`.
        OSError: the disk is full, or the folder cannot be written to.
    """
    path = check_output(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
