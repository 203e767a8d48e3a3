"""The input of a bulk job: one file, a folder of files of rows, or a folder of images."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cascade.bulk.image_folder import IMAGE_SUFFIXES, ImageFolder, image_form
from cascade.bulk.part import PartSource, Unit
from cascade.bulk.rows_files import SUFFIXES, RowsFile
from cascade.config import CascadeConfig
from cascade.errors import DataError

__all__ = ["open_sources", "source_digests", "units_of"]


def open_sources(
    path: Path, config: CascadeConfig, resize: bool = False, skip_broken: bool = False
) -> tuple[PartSource, ...]:
    """The sources of rows, in the order of their names.

    Names that start with "." or "_" are left out, as Hadoop and Spark do with the marks of their jobs.

    Args:
        path: a file; a folder of files of rows; or a folder of images, which may be in further folders.
        config: of the cascade.
        resize: scale images to the rows' size.
        skip_broken: go on after images that cannot be read.

    Raises:
        DataError: there is none, or a file has another format; only some folders of images are called after classes;
            or an option for images was given for others.
        ConfigError: the rows of the configuration are no images.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    path = path.resolve()
    files = _visible(path) if path.is_dir() else [path]
    images = path.is_dir() and any(each.is_dir() or each.suffix.lower() in IMAGE_SUFFIXES for each in files)
    if images:
        image_form(config.rows)
        folder = ImageFolder(path, _image_files(path), config.rows, config.classes, resize, skip_broken)
        _ = folder.label  # checked before anything is scored
        return (folder,)
    other = [each for each in files if each.suffix.lower() not in SUFFIXES or not each.is_file()]
    if other or not files:
        what = f"{other[0]} is none" if other else f"{path} is empty"
        raise DataError(f"the input must be files of the types {', '.join(sorted(SUFFIXES))}, or images; {what}")
    if resize or skip_broken:
        option = "--resize" if resize else "--skip-broken"
        raise DataError(f"{option} is for a folder of images; {path} is none")
    return tuple(RowsFile(file, config.rows, config.classes) for file in files)


def source_digests(sources: Sequence[PartSource]) -> dict[str, str]:
    """SHA-256 over names, sizes and times of change of the files of each source."""
    return {
        source.name: hashlib.sha256(
            json.dumps([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in source.paths()]).encode()
        ).hexdigest()
        for source in sources
    }


def units_of(sources: Sequence[PartSource], part_rows: int) -> list[Unit]:
    """The whole input, cut where reading can begin."""
    units = []
    for index, source in enumerate(sources):
        firsts = source.firsts(part_rows)
        units += [Unit(index, first, stop) for first, stop in zip(firsts, [*firsts[1:], None], strict=True)]
    return units


def _visible(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if not each.name.startswith((".", "_")))


def _image_files(folder: Path) -> tuple[str, ...]:
    """All images in a folder and its folders, as paths in it.

    Raises:
        DataError: there is a file of another type, or none.
    """
    found = []
    for inside, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in files:
            if name.startswith((".", "_")):
                continue
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                raise DataError(
                    f"{Path(inside, name)} is no image ({', '.join(sorted(IMAGE_SUFFIXES))}); a folder of images, or "
                    "one with folders in it, must hold nothing else"
                )
            found.append(os.path.relpath(Path(inside, name), folder))
    if not found:
        raise DataError(f"{folder} holds no images, only folders")
    return tuple(sorted(found))
