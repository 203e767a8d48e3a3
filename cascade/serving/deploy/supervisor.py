"""The parent process of a served cascade: it receives the signals, and ends all processes that are left."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

__all__ = ["SIGNALS", "stop_on_signals", "supervised"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

END_S = 2.0
"""Time for the processes that the child has started to end after it."""
POLL_S = 0.05
PR_SET_CHILD_SUBREAPER = 36


def supervised(stop_s: float) -> threading.Event:
    """Continues in a child process; the parent never returns.

    The child has a session of its own, which a signal of a terminal or a service manager to the process group does not
    reach: Ray's processes must live until the last request is answered. The parent receives the signals. The first one
    stops the child, the second one kills it. When the child has ended, the parent ends the remaining processes of the
    child's session, and exits with the child's code. If the parent is killed, the child stops as well.

    Args:
        stop_s: seconds for the child to stop; then it is killed.

    Returns:
        In the child: set when it is to stop.
    """
    _adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = os.fork()
    if child:
        os.close(reading)
        raise SystemExit(_Supervisor(child, writing, stop_s).wait())
    os.close(writing)
    os.setsid()
    stop = threading.Event()
    stop_on_signals(stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_wait_for_parent, args=(reading, stop), daemon=True).start()
    return stop


def stop_on_signals(stop: threading.Event) -> None:
    """Sets an event when a signal is to stop this process; to be repeated after ``ray.init``, which handles SIGTERM."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: stop.set())


class _Supervisor:
    """Waits for a child.

    Args:
        child: its process, the leader of its session.
        writing: end of a pipe; the child stops when it is closed.
        stop_s: seconds for the child to stop.
    """

    def __init__(self, child: int, writing: int, stop_s: float) -> None:
        self._child = child
        self._writing = writing
        self._stop_s = stop_s
        self._signals = 0
        self._forced: int | None = None

    def wait(self) -> int:
        """Returns the exit code when the child and all its processes have ended."""
        signal.signal(signal.SIGALRM, self._end_now)
        for number in SIGNALS:
            # With nohup it is to outlive the terminal.
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:
                signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        ended, status = os.wait()
        while ended != self._child:  # an orphan of Ray
            ended, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        self._end_session()
        if self._forced is not None:
            return 128 + self._forced
        return code if code >= 0 else 128 - code

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            self._end_now(number, None)
            return
        os.close(self._writing)
        signal.setitimer(signal.ITIMER_REAL, self._stop_s)

    def _end_now(self, number: int, _: FrameType | None) -> None:
        self._forced = number
        for process in _session_members(self._child):
            _kill(process)

    def _end_session(self) -> None:
        end = time.monotonic() + END_S
        while list(_session_members(self._child)):
            if time.monotonic() > end:
                for process in _session_members(self._child):
                    _kill(process)
            time.sleep(POLL_S)
            self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _session_members(leader: int) -> Iterator[int]:
    """Processes of a session that have not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # pid (name, which may hold anything) state ppid pgrp session ...
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] not in "ZX":
                    yield int(entry.name)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _adopt_orphans() -> None:
    """Makes this process the parent of its descendants whose own parents end, so that none is left as a zombie."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_parent(reading: int, stop: threading.Event) -> None:
    """Sets the event when the other end of the pipe is closed, by the parent or by its end."""
    os.read(reading, 1)
    stop.set()
