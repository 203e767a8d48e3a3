"""Memory of a server, sampled while it is loaded."""

import contextlib
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import psutil

from cascade.benchmarks.harness.servers.server_process import ServerProcess
from cascade.benchmarks.running import Running

__all__ = ["MemoryWatch", "growth", "server_memory"]

INTERVAL_S = 1.0
LISTED_EVERY = 30
"""Samples after which the processes are listed anew; this reads all processes of the machine, and stops the client."""


@dataclass
class MemoryWatch(Running):
    """Samples the resident memory of all processes of a server each second, in a thread.

    Attributes:
        server: that is running.
        seconds: since the start, of each sample.
        bytes: resident memory of each sample, shared pages counted once for each process.
    """

    server: ServerProcess
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    def _start(self, undo: ExitStack) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        undo.callback(self._thread.join)
        undo.callback(self._ended.set)

    def _sample(self) -> None:
        begin = time.monotonic()
        processes: list[psutil.Process] = []
        while not self._ended.wait(INTERVAL_S):
            if len(self.bytes) % LISTED_EVERY == 0:
                processes = self.server.family()
            self.seconds.append(time.monotonic() - begin)
            self.bytes.append(server_memory(processes))


def server_memory(processes: Iterable[psutil.Process]) -> int:
    """Resident bytes of processes; of those that have ended, none."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def growth(samples: list[int], warmup: int) -> float | None:
    """Relative growth after a warm-up: median of the last tenth of the samples over that of the first tenth, less 1.

    Args:
        samples: one per second.
        warmup: samples at the beginning, left out.

    Returns:
        0.05 for 5 % more; ``None`` where too few samples are left.
    """
    counted = samples[warmup:]
    tenth = len(counted) // 10
    if not tenth:
        return None
    return float(np.median(counted[-tenth:]) / np.median(counted[:tenth]) - 1)
