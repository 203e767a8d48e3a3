"""A data set as files of a limited size, to bring along to a machine without a network."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from cascade.datasets.cifar10 import Arrays
from cascade.errors import DataError
from cascade.files.npy import read_npy
from cascade.files.zip_files import check_zip

__all__ = ["PART_BYTES", "read_parts", "write_parts"]

PART_BYTES = 44_000_000
FILE = re.compile(r"\w+\.part\d+")


def write_parts(name: str, arrays: Arrays, folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Writes the arrays of a data set as parts, and ``NAME.json`` with the size and SHA-256 of each.

    Args:
        name: of the data set.
        arrays: by name.
        folder: for the files; created.
        part_bytes: most bytes of a part, >= 1.

    Returns:
        The files, ``NAME.json`` last.
    """
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    content = packed.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    entries, files = [], []
    for number, start in enumerate(range(0, len(content), part_bytes)):
        part = content[start : start + part_bytes]
        files.append(folder / f"{name}.part{number:02}")
        files[-1].write_bytes(part)
        entries.append({"file": files[-1].name, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()})
    manifest = folder / f"{name}.json"
    manifest.write_text(json.dumps({"schema_version": 1, "data_set": name, "parts": entries}, indent=1) + "\n")
    return [*files, manifest]


def read_parts(name: str, folder: Path) -> Arrays:
    """Reads what :func:`write_parts` wrote.

    Args:
        name: of the data set.
        folder: of the parts.

    Raises:
        DataError: a file is missing, a part has another size or SHA-256, or the parts are no arrays.
    """
    entries = _entries(name, folder)
    content = b"".join(_part(folder / entry["file"], entry) for entry in entries)
    try:
        check_zip(io.BytesIO(content), DataError)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                member.removesuffix(".npy"): read_npy(archive.read(member), member, DataError)
                for member in archive.namelist()
            }
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"the parts of {name} in {folder} are not the arrays of a data set: {error}") from error


def _entries(name: str, folder: Path) -> list[dict[str, Any]]:
    manifest = folder / f"{name}.json"
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))["parts"]
        if not entries or not all(FILE.fullmatch(entry["file"]) and entry["sha256"] for entry in entries):
            raise ValueError("it must list at least one part, each a file NAME.partNN beside it")
    except FileNotFoundError as error:
        raise DataError(
            f"{manifest} does not exist; 'cascade data {name} --pack {folder}' on a machine with the data set writes it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is not a list of parts: {error}") from error
    return list(entries)


def _part(file: Path, entry: dict[str, Any]) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"part {file} is missing: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise DataError(
            f"part {file} has {len(content):,} bytes with SHA-256 {digest}, not {entry['sha256']}; copy it again"
        )
    return content
