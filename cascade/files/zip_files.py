"""Zip archives from any source: their unpacked size is checked before they are read."""

import os
import zipfile
from pathlib import Path
from typing import IO

from cascade.errors import InputError

__all__ = ["check_zip"]

FREE_BYTES = 4 << 30
"""Unpacked size that is always allowed."""
MOST_TIMES = 4
"""Maximum unpacked size of larger archives, as a multiple of their own size; it is 1 for uncompressed arrays."""
MOST_MEMBERS = 1_000_000
"""skops stores every number of a vocabulary as a member: text models have hundreds of thousands."""


def check_zip(path: Path | str | IO[bytes], error_type: type[InputError]) -> None:
    """Refuses an archive whose unpacked size is far larger than the file.

    Python's ``zipfile`` never returns more bytes of a member than the directory lists, so the check of the directory
    bounds what is read, even if the directory is wrong.

    Args:
        path: of the archive, or the open file.
        error_type: raised if it is refused.

    Raises:
        InputError: of ``error_type``.
        OSError, zipfile.BadZipFile: it cannot be read, or is not an archive.
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
            f"{name} has {size} bytes and would unpack to {unpacked} bytes in {len(members)} files, like a zip bomb; "
            "if it is yours, write it without compression (numpy.savez)"
        )
