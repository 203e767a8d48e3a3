"""The bearer keys that are known, kept as digests only."""

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

    One key a line, or between commas; ``name:key`` gives it a name for whoever keeps the file; a line that starts with
    "#" is a comment. The file is read again when it has changed; one that then cannot be used is reported in the log,
    and the keys known before stay valid.

    Args:
        variable: name of the environment variable.
        file: path of the file.

    Raises:
        ConfigError: the variable is not set, the file cannot be read or can be read by everybody, there is no key, or
            a key is too short or has characters that a header may not carry.
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
        """Whether a key is one of these; how long it takes does not tell which, nor how much of it is right."""
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
            logger.error("%s; the keys read before stay valid", error)
        else:
            logger.info("read %s again: %d keys", self._file, len(self._from_file))


def check_private(file: Path) -> None:
    """Refuses a secret that everybody on the machine can read or change.

    Raises:
        ConfigError: it is such a file, or there is none.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise ConfigError(
            f"{file} holds secrets, and everybody on this machine may use it (mode {stat.S_IMODE(mode):o}); "
            "take that away with chmod o= (in a Kubernetes secret: defaultMode: 0440)"
        )


def _signature(file: Path) -> tuple[int, ...]:
    """Changes when the file does; empty where there is none."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def first_key(variable: str | None, file: Path | None) -> str:
    """The first key of a file or of an environment variable, for who wants to use it.

    Raises:
        ConfigError: there is none that can be used, as for :class:`KeyRing`.
    """
    text, source = _text_of_variable(variable) if file is None else _text_of_file(file)
    return _keys(text, source)[0]


def _text_of_file(file: Path) -> tuple[str, str]:
    """What a file holds, and how messages call it."""
    check_private(file)
    try:
        return file.read_text(encoding="utf-8"), str(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Not as its cause: that holds what was read.
        raise ConfigError(f"{file} is not text; write one key a line") from None


def _text_of_variable(name: str | None) -> tuple[str, str]:
    """What a variable holds, and how messages call it."""
    text = os.environ.get(name or "")
    if text is None:
        raise ConfigError(f"the environment variable {name} is not set; put the keys into it, with commas between them")
    return text, f"the environment variable {name}"


def _digests(text: str, source: str) -> frozenset[bytes]:
    return frozenset(hashlib.sha256(key.encode("ascii")).digest() for key in _keys(text, source))


def _keys(text: str, source: str) -> list[str]:
    """At least one key."""
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
        raise ConfigError(f"{source} holds no key; write one a line, or leave the setting out")
    return keys
