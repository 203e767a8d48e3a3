"""``cascade serve`` in a process of its own: Ray cannot be started twice in one process."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager

import psutil

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For a client of plain HTTP: reading the system's certificates takes longer than a request."""


@contextmanager
def serving_process(config_path, log):
    """Yields the address of a served cascade on a free port; stops it with Ctrl-C, and checks its exit code.

    Args:
        config_path: of the configuration.
        log: file for what it says on standard error.
    """
    command = [sys.executable, "-m", "cascade", "serve", str(config_path), "--port", str(free_port()), "--json"]
    with log.open("w") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, f"the server did not start: {log.read_text()}"
            yield json.loads(line)["serving"]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()


def free_port():
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_family(process):
    """Ends a process and all its descendants."""
    for each in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
        each.kill()
    process.kill()
    process.wait(10)
    process.stdout.close()
