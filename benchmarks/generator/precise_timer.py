"""A timer of an event loop that is more precise than the loop's own, which round to milliseconds."""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

__all__ = ["PreciseTimer"]

CLOCK_MONOTONIC = 1
ABSOLUTE = 1


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("first", _Moment))


class PreciseTimer:
    """Calls a function at moments of ``time.monotonic``.

    On Linux it is a file of the kernel's timer (timerfd_create(2)) among those that the loop waits for. Elsewhere it is
    the loop's own timer.

    Args:
        call: without arguments.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._file: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        if sys.platform == "linux":
            self._library = ctypes.CDLL(None, use_errno=True)
            file = self._library.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if file >= 0:
                self._file = file
                self._loop.add_reader(file, self._fire)

    def set(self, moment: float) -> None:
        """Sets the next call; a moment that has passed is called at once."""
        if self._file is None:
            self._handle = self._loop.call_later(max(0.0, moment - time.monotonic()), self._call)
            return
        nanoseconds = max(1, int(moment * 1e9))
        setting = _Setting(_Moment(0, 0), _Moment(*divmod(nanoseconds, 1_000_000_000)))
        self._library.timerfd_settime(self._file, ABSOLUTE, ctypes.byref(setting), None)

    def close(self) -> None:
        """Ends the timer; may be called twice."""
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _fire(self) -> None:
        if self._file is not None:
            os.read(self._file, 8)
            self._call()
