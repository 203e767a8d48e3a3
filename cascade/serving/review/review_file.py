"""The review file: JSON lines, bounded in size, shared by the gateways of a node."""

import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

__all__ = ["ReviewFile"]


class ReviewFile:
    """Appends lines to a file.

    The file is opened for each write, so it can be moved away at any time. A write that would exceed the bound first
    renames the file to end in ".1", which replaces the previous one; so both files have at most twice the bound.

    Args:
        path: path of the file; its folder must exist.
        max_bytes: bound of the file in bytes; only a single write that is longer exceeds it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        """Appends one line per record, all of them or none.

        Raises:
            OSError: the file cannot be opened, or the disk is full.
        """
        lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
        file = self._open_for(len(lines))
        try:
            self._append(file, lines)
        finally:
            os.close(file)

    def _open_for(self, size: int) -> int:
        """Opens and locks the file, with room for ``size`` bytes."""
        while True:
            # Mode 600, since rows may be private. Closing the file releases the lock.
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                state = os.fstat(file)
                full = stat.S_ISREG(state.st_mode) and state.st_size > 0 and state.st_size + size > self._max_bytes
                if not full and self._is_current(state):
                    return file
                if self._is_current(state):
                    self._path.replace(f"{self._path}.1")
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _is_current(self, state: os.stat_result) -> bool:
        """Whether the path still names the opened file: another gateway may have renamed it meanwhile."""
        try:
            return os.path.samestat(state, self._path.stat())
        except FileNotFoundError:
            return False

    def _append(self, file: int, lines: bytes) -> None:
        before = os.fstat(file).st_size
        written = 0
        try:
            while written < len(lines):
                written += os.write(file, lines[written:])
        except OSError:
            if written:
                os.ftruncate(file, before)
            raise
