"""A server in a process of its own: started, waited for, and stopped with everything that it started."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from cascade.benchmarks.running import Running
from cascade.errors import CascadeError

__all__ = ["Probe", "ServerProcess", "cascade_server", "end_processes", "free_port"]

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
LOG_TAIL_CHARACTERS = 2000
CASCADE_IS_UP = "policy version"
Probe = tuple[bytes, dict[str, str]]
"""Body and headers of a request that is answered with 200 once the server is ready."""


def free_port() -> int:
    """A loopback port that no process uses at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class ServerProcess(Running):
    """A command that serves ``POST /predict`` on a loopback port.

    Args:
        name: for messages.
        command: without the port; the process ends when it is sent SIGINT.
        probe: of the server.
        environment: further variables; without RAY_ADDRESS among them it starts a Ray of its own.
        up: text that it writes once all of it is up: one of several gateways answers before the others, and would have
            all connections that are opened meanwhile.

    Attributes:
        port: that it listens on.
        address: such as "http://127.0.0.1:8000".
        url: of ``/predict``.
    """

    def __init__(
        self, name: str, command: Sequence[str], probe: Probe, environment: dict[str, str] | None = None, up: str = ""
    ) -> None:
        self.name, self.probe, self.environment, self.up = name, probe, environment or {}, up
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/predict"
        self.command = [*command, "--port", str(self.port)]

    def _start(self, undo: ExitStack) -> None:
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self._log = undo.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (closed by undo)
        self._process = subprocess.Popen(
            self.command, stdout=self._log, stderr=self._log, env=inherited | self.environment, start_new_session=True
        )
        undo.callback(end_processes, self._process)
        self._wait_until_ready()

    def family(self) -> list[psutil.Process]:
        """The process and its running descendants."""
        try:
            whole = psutil.Process(self._process.pid)
            return [whole, *whole.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def exit_code(self) -> int | None:
        """Exit code of the process; ``None`` while it runs."""
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
                raise CascadeError(
                    f"{self.name} ended with code {self._process.returncode}:\n{self._written()[-LOG_TAIL_CHARACTERS:]}"
                )
            try:
                self.post(*self.probe)
                if self.up in self._written():
                    return
                problem = f"it answers, but has not written {self.up!r}"
            except OSError as error:
                problem = error
            time.sleep(0.5)
        tail = self._written()[-LOG_TAIL_CHARACTERS:]
        raise CascadeError(f"{self.name} was not ready in {START_TIMEOUT_S:g} s ({problem}):\n{tail}")

    def _written(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode("utf-8", errors="replace")


def cascade_server(
    config: Path,
    probe: Probe,
    name: str = "gateway",
    environment: dict[str, str] | None = None,
    policy: Path | None = None,
) -> ServerProcess:
    """``cascade serve``; ready when all of its gateways are.

    Args:
        config: of the cascade.
        probe: of the server.
        name: for messages.
        environment: further variables.
        policy: in place of the configuration's.
    """
    with_policy = [] if policy is None else ["--policy", str(policy)]
    command = [sys.executable, "-m", "cascade", "serve", str(config), *with_policy]
    return ServerProcess(name, command, probe, environment, CASCADE_IS_UP)


def end_processes(process: "subprocess.Popen[bytes]") -> None:
    """Interrupts a process; kills by their ids those of it and of its descendants that remain."""
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
