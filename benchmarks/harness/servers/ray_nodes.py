"""Two Ray nodes on this machine, so that one of them can be killed."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from cascade.benchmarks.harness.servers.server_process import end_processes, free_port
from cascade.benchmarks.running import Running
from cascade.errors import CascadeError

__all__ = ["RayNodes"]

START_TIMEOUT_S = 90.0
OBJECT_STORE_BYTES = 150_000_000


class RayNodes(Running):
    """A head node and a second one, of two logical processors each.

    Args:
        folder: for logs.
        dashboard: whether the head has a dashboard, which "serve deploy" needs.

    Attributes:
        environment: variables with which a process joins this cluster.
        dashboard_url: of the dashboard, where there is one.
    """

    def __init__(self, folder: Path, dashboard: bool = False) -> None:
        self._folder = folder
        self._dashboard_port = free_port() if dashboard else None
        self.dashboard_url = f"http://127.0.0.1:{self._dashboard_port}"
        self._port = free_port()
        # Ray guards its ports with a token; all nodes and clients need the same.
        self.environment = {
            "RAY_ADDRESS": f"127.0.0.1:{self._port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def _start(self, undo: ExitStack) -> None:
        undo.callback(self._stop)
        self._start_node("--head", f"--port={self._port}", *self._dashboard_options())
        self._start_node(f"--address={self.environment['RAY_ADDRESS']}")

    def family(self) -> list[psutil.Process]:
        """All running processes of both nodes."""
        found = []
        for node in self._nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(node.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def kill_second(self) -> list[str]:
        """Ends the second node and all that runs on it, as if its machine had lost power.

        Returns:
            The names of the processes.
        """
        node = psutil.Process(self._nodes[1].pid)
        processes = [node, *node.children(recursive=True)]
        names = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                names.append(" ".join(process.cmdline()[:1]))
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes[1].wait()
        return names

    def _dashboard_options(self) -> list[str]:
        if self._dashboard_port is None:
            return ["--include-dashboard=false"]
        address = ["--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard_port}"]
        # Its agents have a port of their own, which another Ray on this machine may use.
        return ["--include-dashboard=true", *address, f"--dashboard-agent-listen-port={free_port()}"]

    def _start_node(self, *options: str) -> None:
        """Starts a node, and waits for the line that reports it."""
        name = f"node{len(self._nodes)}.log"
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"),
            *("--num-cpus=2", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats", *options),
        ]
        # "ray start" refuses to start a node where an address is set.
        environment = os.environ | {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        environment.pop("RAY_ADDRESS", None)
        with (self._folder / name).open("wb") as log:
            node = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self._nodes.append(node)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and node.poll() is None:
            if "Ray runtime started" in (self._folder / name).read_text(encoding="utf-8", errors="replace"):
                return
            time.sleep(0.5)
        raise CascadeError(f"a Ray node did not start:\n{(self._folder / name).read_text()[-2000:]}")

    def _stop(self) -> None:
        for node in reversed(self._nodes):
            end_processes(node)
