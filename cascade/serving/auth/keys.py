"""Bearer keys, held as digests only."""

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from pathlib import Path

from cascade.errors import ConfigError

__all__ = ["KeyRing", "check_private", "first_key"]

CHECK_EVERY_S = 1.0
MIN_KEY_LENGTH = 16
KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # "token68" of RFC 9110, section 11.2
logger = logging.getLogger(__name__)


class KeyRing:
    """Keys from an environment variable, from a file, or from both.

    Keys are separated by line ends or commas. ``name:key`` gives a key a name, which is only for readers of the file. A
    line that starts with "#" is a comment. A changed file is read again; if it is invalid then, the error is logged and
    the previous keys stay valid.

    Args:
        variable: name of the environment variable.
        file: path of the file.

    Raises:
        ConfigError: the variable is not set, the file cannot be read or everybody can read it, there is no key, or a
            key is too short or has characters that a header cannot carry.
    """

    def __init__(self, variable: str | None = None, file: Path | None = None) -> None:
        self._file = file
        self._from_variable = frozenset[bytes]() if variable is None else _digests(*_text_of_variable(variable))
        self._from_file = frozenset[bytes]()
        self._seen: tuple[int, ...] = ()
        self._next_check_s = 0.0
        if file is not None:
            self._seen = _signature(file)
            self._from_file = _digests(*_text_of_file(file))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._from_variable | self._from_file)} keys)"

    def holds(self, key: bytes) -> bool:
        """Whether a key is one of these; the time it takes reveals nothing about the keys."""
        self._read_again()
        digest = hashlib.sha256(key).digest()
        found = False
        for known in (*self._from_variable, *self._from_file):
            found |= hmac.compare_digest(digest, known)
        return found

    def _read_again(self) -> None:
        now = time.monotonic()
        if self._file is None or now < self._next_check_s:
            return
        self._next_check_s = now + CHECK_EVERY_S
        seen = _signature(self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._from_file = _digests(*_text_of_file(self._file))
        except ConfigError as error:
            logger.error("%s; the previous keys stay valid", error)
        else:
            logger.info("read %s again: %d keys", self._file, len(self._from_file))


def check_private(file: Path) -> None:
    """Refuses a file of secrets that everybody on the machine can read or change.

    Raises:
        ConfigError: everybody has access to the file, or it does not exist.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"{file} holds secrets, and everybody on this machine has access to it (mode {stat.S_IMODE(mode):o}); "
            "remove the access with chmod o= (in a Kubernetes secret: defaultMode: 0440)"
        )


def _signature(file: Path) -> tuple[int, ...]:
    """A value that changes with the file; () if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def first_key(variable: str | None, file: Path | None) -> str:
    """The first key of a file or an environment variable, for a client.

    Raises:
        ConfigError: there is no valid key, as in :class:`KeyRing`.
    """
    text, source = _text_of_variable(variable) if file is None else _text_of_file(file)
    return _keys(text, source)[0]


def _text_of_file(file: Path) -> tuple[str, str]:
    """The text of a file, and its name for messages."""
    check_private(file)
    try:
        return file.read_text(encoding="utf-8"), str(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Not chained: the cause would quote the secrets.
        raise ConfigError(f"{file} is not text; write one key per line") from None


def _text_of_variable(name: str | None) -> tuple[str, str]:
    """The text of a variable, and its name for messages."""
    text = os.environ.get(name or "")
    if text is None:
        raise ConfigError(f"the environment variable {name} is not set; set it to the keys, separated by commas")
    return text, f"the environment variable {name}"


def _digests(text: str, source: str) -> frozenset[bytes]:
    return frozenset(hashlib.sha256(key.encode("ascii")).digest() for key in _keys(text, source))


def _keys(text: str, source: str) -> list[str]:
    """The keys in a text, at least one."""
    keys = []
    for number, line in enumerate(text.replace(",", "\n").splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        key = entry.rpartition(":")[2].strip()
        if len(key) < MIN_KEY_LENGTH or not KEY.fullmatch(key):
            raise ConfigError(
                f"{source}: the key in line {number} must have at least {MIN_KEY_LENGTH} characters, all of them "
                'letters, digits or one of "-._~+/", then perhaps "="; make one with: openssl rand -hex 32'
            )
        keys.append(key)
    if not keys:
        raise ConfigError(f"{source} has no key; write one key per line, or remove the setting")
    return keys
