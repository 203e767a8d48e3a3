"""Where fetched files live."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``IDK_CASCADE_CACHE``, or ``~/.cache/idk-cascade``; not created here."""
    return Path(os.environ.get("IDK_CASCADE_CACHE") or Path.home() / ".cache" / "idk-cascade")
