"""A server in a process of its own: started, waited for, and stopped with everything that it started."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from cascade.errors import CascadeError

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
LOG_TAIL_CHARACTERS = 2000
CASCADE_IS_UP = "policy version"
"""``up`` of ``cascade serve``."""


def free_port() -> int:
    """A loopback port that nobody uses at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class ServerProcess:
    """A command that serves ``POST /predict`` on a loopback port.

    Args:
        name: for messages.
        command: what is run; it ends when it is sent SIGINT.
        url: of ``/predict``.
        probe: (body, headers) of a request that is answered with 200 once the server is ready.
        log: file for its output.
        environment: further variables; without RAY_ADDRESS among them it starts a Ray of its own.
        up: text that it writes once all of it is up: one of several gateways answers before the others, and would have
            all connections that are opened meanwhile.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        url: str,
        probe: tuple[bytes, dict[str, str]],
        log: Path,
        environment: dict[str, str] | None = None,
        up: str = "",
    ) -> None:
        self.name, self.command, self.url, self.probe, self.log = name, list(command), url, probe, log
        self.environment, self.up = environment or {}, up

    def __enter__(self) -> Self:
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=inherited | self.environment, start_new_session=True
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def family(self) -> list[psutil.Process]:
        """The process and all its descendants that live."""
        try:
            whole = psutil.Process(self._process.pid)
            return [whole, *whole.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def exit_code(self) -> int | None:
        """Of the process; ``None`` while it runs."""
        return self._process.poll()

    def processor_s(self) -> float:
        """Processor time that the process and its descendants have used."""
        total = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def post(self, body: bytes, headers: dict[str, str]) -> bytes:
        """One request; the answer's body.

        Raises:
            OSError: it was not answered with 200.
        """
        request = urllib.request.Request(self.url, body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            return bytes(response.read())

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        problem: object = "not tried"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise CascadeError(f"{self.name} ended with code {self._process.returncode}:\n{self._log_tail()}")
            try:
                self.post(*self.probe)
                if self.up in self.log.read_text(encoding="utf-8", errors="replace"):
                    return
                problem = f"it answers, but has not written {self.up!r}"
            except OSError as error:
                problem = error
            time.sleep(0.5)
        raise CascadeError(f"{self.name} was not ready in {START_TIMEOUT_S:g} s ({problem}):\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]

    def _stop(self) -> None:
        end_processes(self._process)


def end_processes(process: "subprocess.Popen[bytes]") -> None:
    """Asks a process to end; ends by their ids what is left of it and of its descendants."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=3)
    for one in alive:
        one.kill()  # psutil makes sure that the id is still the same process
    psutil.wait_procs(alive, timeout=5)
