"""Zip archives that anyone may have written: what they unpack to is bounded before they are read."""

import os
import zipfile
from pathlib import Path
from typing import IO

from cascade.errors import InputError

__all__ = ["check_zip"]

FREE_BYTES = 4 << 30
"""What any archive may unpack to."""
MOST_TIMES = 4
"""A larger one may unpack to as many times its own size: arrays that are stored, not compressed, take one."""
MOST_MEMBERS = 1_000_000
"""skops stores every number of a vocabulary in a member of its own: a text model has hundreds of thousands."""


def check_zip(path: Path | str | IO[bytes], error_type: type[InputError]) -> None:
    """Refuses an archive that unpacks to far more than it has.

    Python's ``zipfile`` never hands out more bytes of a member than the directory announces, so bounding what the
    directory says bounds what is read, also where it lies.

    Args:
        path: of the archive, or the open file.
        error_type: raised when it is refused.

    Raises:
        InputError: of ``error_type``.
        OSError, zipfile.BadZipFile: it cannot be read, or is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if archive.fp is None:
            raise zipfile.BadZipFile("the archive is closed")
        size = archive.fp.seek(0, os.SEEK_END)
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or unpacked > max(FREE_BYTES, MOST_TIMES * size):
        name = getattr(path, "name", path)
        raise error_type(
            f"{name} has {size} bytes and would unpack to {unpacked} in {len(members)} files, as archives do that are "
            "made to fill the memory; if it is yours, write it without compression (numpy.savez)"
        )
