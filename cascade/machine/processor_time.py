"""Processor time of other processes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OthersShare", "others_share"]

STAT = Path("/proc/stat")


@dataclass
class OthersShare:
    """The result of :func:`others_share`.

    Attributes:
        value: share of all processors, in [0, 1], once the context has ended; ``None`` if unknown.
    """

    value: float | None = None


@contextmanager
def others_share() -> Iterator[OthersShare]:
    """Counts the processor time of all other processes while the context is open (Linux)."""
    share = OthersShare()
    before, own, began = _busy_s(), time.process_time(), time.monotonic()
    yield share
    after, elapsed = _busy_s(), time.monotonic() - began
    if before is not None and after is not None and elapsed > 0:
        others = after - before - (time.process_time() - own)
        share.value = min(max(others / elapsed / (os.cpu_count() or 1), 0.0), 1.0)


def _busy_s() -> float | None:
    """Processor time of all processes since boot, in seconds; ``None`` if the system does not count it."""
    try:
        fields = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        user, nice, system = (int(value) for value in fields[:3])
    except (OSError, ValueError, UnicodeDecodeError):
        return None
    return (user + nice + system) / float(os.sysconf("SC_CLK_TCK"))
