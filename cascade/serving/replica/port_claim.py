"""The claim of a cascade on a port of its node, which the kernel would let any processes share, as gateways do."""

import contextlib
import fcntl
import json
import os
import socket
import tempfile
import time
from pathlib import Path

from cascade.errors import ConfigError

__all__ = ["PortClaim", "check_port"]

RETRY_S = 0.05
RETRIES = 100


class PortClaim:
    """A claim of all gateways of one cascade on an address of their node.

    It is a lock on a file, which the kernel releases when the process ends, however it ends: a claim is never stale.
    The first gateway that locks the file checks that no other program listens, and writes its cascade into the file.

    Args:
        host: to listen on.
        port: to listen on.
        cascade: name of the application.
        cluster: address of its cluster.
    """

    def __init__(self, host: str, port: int, cascade: str, cluster: str) -> None:
        self._host, self._port = host, port
        self._owner = {"cascade": cascade, "cluster": cluster}
        self._file: int | None = None

    def take(self) -> None:
        """Claims the address; blocks for five seconds at most.

        Raises:
            ConfigError: another cascade has it, or another program listens there.
        """
        path = _path(self._host, self._port)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot claim {self._host}:{self._port} with {path}: {error.strerror}") from error
        try:
            self._lock(self._file)
        except ConfigError:
            self.release()
            raise

    def release(self) -> None:
        """Releases the address."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, file: int) -> None:
        for _ in range(RETRIES):
            if _locked(file, fcntl.LOCK_EX):
                os.ftruncate(file, 0)
                check_port(self._host, self._port)
                os.pwrite(file, json.dumps(self._owner).encode(), 0)
                fcntl.flock(file, fcntl.LOCK_SH)  # another gateway may come in between; its entry is read below
            elif not _locked(file, fcntl.LOCK_SH):
                time.sleep(RETRY_S)  # another gateway is about to write
                continue
            owner = _owner(self._host, self._port)
            if owner != self._owner:
                raise ConfigError(_taken(self._host, self._port, owner))
            return
        raise ConfigError(f"cannot lock {_path(self._host, self._port)}; does another process hold it?")


def check_port(host: str, port: int) -> None:
    """Checks that no program listens on an address of this machine.

    Raises:
        ConfigError: one does, or it is no address of this machine; the message names the cascade, if it is one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            owner = _owner(host, port)
            if owner:
                raise ConfigError(_taken(host, port, owner)) from error
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port, or serving.port"
            ) from error


def _path(host: str, port: int) -> Path:
    return Path(tempfile.gettempdir()) / f"idk-cascade-{os.getuid()}" / f"{host.replace(':', '_')}-{port}.lock"


def _locked(file: int, kind: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False


def _owner(host: str, port: int) -> dict[str, str]:
    """The cascade that has claimed an address; empty if none has, or the cascade is dead."""
    try:
        with _path(host, port).open() as file:
            content = {} if _locked(file.fileno(), fcntl.LOCK_EX) else json.loads(file.read() or "{}")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _taken(host: str, port: int, owner: dict[str, str]) -> str:
    return (
        f"cannot listen on {host}:{port}: the cascade {owner.get('cascade')!r} has this port; choose another with "
        "--port, or serving.port"
    )
