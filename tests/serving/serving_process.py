"""``cascade serve`` in a process of its own: Ray is not made to be started twice in one."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager

import psutil

NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP, since reading the system's certificates takes longer than a request."""


@contextmanager
def serving_process(config_path, log):
    """Yields the address of a served cascade on a free port; ends it with Ctrl-C, and checks that it ended well.

    Args:
        config_path: of the configuration.
        log: file for its standard error.
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
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_family(process):
    """Ends a process and all that it has started."""
    for each in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
        each.kill()
    process.kill()
    process.wait(10)
    process.stdout.close()
