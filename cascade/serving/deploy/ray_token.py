"""The token that protects the ports of a local Ray from other users."""

import logging
import os
import secrets
import stat
from pathlib import Path

__all__ = ["ensure_private_token"]

logger = logging.getLogger(__name__)


def ensure_private_token() -> None:
    """Creates the token that Ray would create itself, readable by its owner only, or warns of one that others can read.

    Ray 2.60 writes ``~/.ray/auth_token`` with the default permissions of a new file. Whoever reads it can run code as
    the owner of the Ray. Does nothing where Ray uses no token, or one from the environment.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    if path.exists():
        if _is_open_to_others(path):
            logger.warning(
                "%s holds the token of Ray, and every user of this machine can read it (mode %o); change that with "
                "chmod 600 %s",
                path,
                stat.S_IMODE(path.stat().st_mode),
                path,
            )
    elif not given:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(32), encoding="ascii")


def _is_open_to_others(path: Path) -> bool:
    """Whether every user can open a file: its permissions allow it, and so do those of all its folders."""
    return bool(path.stat().st_mode & stat.S_IRWXO) and all(
        each.stat().st_mode & stat.S_IXOTH for each in _folders(path)
    )


def _folders(path: Path) -> list[Path]:
    return list(path.resolve().parents)
